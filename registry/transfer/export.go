package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// Ref names what is exported of a repository: a tag, a digest, or all tags.
type Ref struct {
	Repo registry.Name
	registry.Reference
}

// ParseRef reads REPO, REPO:TAG or REPO@DIGEST.
func ParseRef(s string) (Ref, error) {
	repo, reference := s, ""
	for i := range len(s) {
		if s[i] == '@' || s[i] == ':' {
			repo, reference = s[:i], s[i+1:]
			break
		}
	}
	n, err := registry.ParseName(repo)
	if err != nil || reference == "" {
		return Ref{Repo: n}, err
	}
	r, err := registry.ParseReference(reference)
	return Ref{n, r}, err
}

// Export writes images to a directory or an archive: one OCI image layout if all
// are of one repository, otherwise one for each, below a directory of its name.
// With the images go what indexes list, referrers, and cosign's tags. Files that
// are in a directory already are left, so an interrupted export is continued by
// the next one; an archive is begun anew.
type Export struct {
	Store Store
	// Since is what the other side has. nil: nothing.
	Since *Since
	// Sign signs the export. nil: it is not signed.
	Sign *Key
	// Now is the time that is written into a signed export.
	Now time.Time
	// Missing is told what manifests refer to and the registry does not have.
	Missing func(registry.Name, registry.Digest)
	// Progress is told of each image. nil: nobody wants to know.
	Progress func(Progress)
}

// exporting is one run of an Export.
type exporting struct {
	*Export
	ctx     context.Context
	sink    sink
	done    Progress
	written map[registry.Digest]string // the first file of each content
	layouts map[string]string          // see manifest
	names   map[string]bool            // of the files in the layout at hand
}

// Run exports refs, or the whole registry if there are none.
func (e *Export) Run(ctx context.Context, dest string, refs []Ref) (_ Progress, err error) {
	repos := make(map[registry.Name][]registry.Reference)
	var order []registry.Name
	for _, r := range refs {
		if _, ok := repos[r.Repo]; !ok {
			order = append(order, r.Repo)
		}
		repos[r.Repo] = append(repos[r.Repo], r.Reference)
	}
	if len(refs) == 0 {
		err := eachRepository(ctx, e.Store, func(n registry.Name) error {
			order = append(order, n)
			repos[n] = []registry.Reference{{}}
			return nil
		})
		if err != nil {
			return Progress{}, err
		}
	}
	s, err := openSink(dest)
	if err != nil {
		return Progress{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	x := &exporting{Export: e, ctx: ctx, sink: s, written: make(map[registry.Digest]string), layouts: make(map[string]string)}
	for _, repo := range order {
		dir := string(repo)
		if len(refs) > 0 && len(order) == 1 {
			dir = ""
		}
		if err := x.repository(repo, dir, repos[repo]); err != nil {
			return x.done, fmt.Errorf("exporting %s: %w", repo, err)
		}
	}
	if err := x.manifest(); err != nil {
		return x.done, err
	}
	return x.done, s.finish()
}

// repository writes the layout of a repository, its index last.
func (x *exporting) repository(repo registry.Name, dir string, refs []registry.Reference) error {
	index := imgspec.Index{MediaType: registry.TypeIndex, Manifests: []imgspec.Descriptor{}}
	index.SchemaVersion = 2
	x.names = make(map[string]bool)
	add := func(m registry.Manifest, tag registry.Tag) {
		d := imgspec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
		if tag != "" {
			d.Annotations = map[string]string{imgspec.AnnotationRefName: string(tag)}
		}
		index.Manifests = append(index.Manifests, d)
		x.done.Repo, x.done.Tag, x.done.Digest = repo, tag, m.Digest
		if x.Progress != nil {
			x.Progress(x.done)
		}
	}
	w := &walker{
		Store: x.Store, ctx: x.ctx, repo: repo,
		manifest: func(m registry.Manifest) error {
			if x.Since != nil && x.Since.manifests[seenKey{repo, m.Digest}] {
				return nil
			}
			return x.content(dir, m.Digest, m.Size, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Bytes)), nil }, true)
		},
		tag: func(t registry.Tag, m registry.Manifest) error {
			if x.Since == nil || x.Since.tags[tagKey(repo, t)] != m.Digest {
				add(m, t)
			}
			return nil
		},
		untagged: func(m registry.Manifest) error {
			if x.Since == nil || !x.Since.manifests[seenKey{repo, m.Digest}] {
				add(m, "")
			}
			return nil
		},
		blob: func(b registry.Blob) error {
			if x.Since != nil && x.Since.has[b.Digest] {
				return nil
			}
			return x.content(dir, b.Digest, b.Size, func() (io.ReadCloser, error) {
				if b.Inline != nil {
					return io.NopCloser(bytes.NewReader(b.Inline)), nil
				}
				return x.Store.Blobs.Open(x.ctx, b.Stored, registry.Whole)
			}, false)
		},
		missing: func(d registry.Digest) {
			if x.Missing != nil {
				x.Missing(repo, d)
			}
		},
	}
	for _, r := range refs {
		var err error
		if r == (registry.Reference{}) {
			err = w.all()
		} else {
			err = w.reference(r)
		}
		if err != nil {
			return err
		}
	}
	if x.Since != nil && len(index.Manifests) == 0 {
		return nil
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	x.layouts[dir] = registry.SHA256.FromBytes(b).Encoded()
	layout := []byte(`{"imageLayoutVersion":"` + imgspec.ImageLayoutVersion + `"}`)
	if err := x.sink.put(path.Join(dir, imgspec.ImageLayoutFile), int64(len(layout)), bytes.NewReader(layout)); err != nil {
		return err
	}
	return x.sink.put(path.Join(dir, "index.json"), int64(len(b)), bytes.NewReader(b))
}

// content writes a blob or a manifest.
func (x *exporting) content(dir string, d registry.Digest, size int64, open func() (io.ReadCloser, error), isManifest bool) error {
	name := path.Join(dir, "blobs", string(d.Algorithm()), d.Encoded())
	if x.names[name] {
		return nil
	}
	x.names[name] = true
	first, twice := x.written[d]
	switch {
	case twice:
		return x.sink.link(name, first)
	case x.sink.has(name, size):
		x.written[d] = name
		x.done.Present++
		return nil
	}
	r, err := open()
	if err != nil {
		return fmt.Errorf("reading %s: %w", d, err)
	}
	defer r.Close()
	if err := x.sink.put(name, size, &verified{Reader: r, hash: d.Algorithm().Hash(), want: d}); err != nil {
		return err
	}
	x.written[d] = name
	if isManifest {
		x.done.Manifests++
	} else {
		x.done.Blobs++
		x.done.Bytes += size
	}
	return nil
}

// verified is a reader that fails at the end if what it read is not what it
// should be.
type verified struct {
	io.Reader
	hash hash.Hash
	want registry.Digest
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF && registry.Digest(fmt.Sprintf("%s:%x", v.want.Algorithm(), v.hash.Sum(nil))) != v.want {
		return n, registry.ErrDigestInvalid.With("%s is damaged in the registry", v.want)
	}
	return n, err
}

// manifest writes what the export holds, and who says so.
func (x *exporting) manifest() error {
	if x.Sign == nil {
		return nil
	}
	m := manifest{Version: 1, Created: x.Now.UTC().Format(time.RFC3339), Layouts: maps.Clone(x.layouts)}
	if x.Since != nil {
		m.Since = x.Since.what
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := x.sink.put(manifestName, int64(len(b)), bytes.NewReader(b)); err != nil {
		return err
	}
	signature := x.Sign.sign(b)
	return x.sink.put(signatureName, int64(len(signature)), bytes.NewReader(signature))
}
