package syncer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// delivery is one attempt to pass a push on.
type delivery struct {
	s    *Service
	r    *Rule
	row  forwardRow
	h    *upstream.Host
	to   string // the repository there
	done map[registry.Digest]bool
}

// uploadChunk is how much of a blob one request sends: what a registry that drops the
// bytes of a request which broke off has to get again.
const uploadChunk = 16 << 20

// deliver sends what the other registry lacks of an image, and its tag last. It may be
// repeated after any failure. An endedError says that it need not be.
func (d *delivery) deliver(ctx context.Context) error {
	t, ok := d.r.match(string(d.row.repo))
	if !ok {
		return endedError{registry.ForwardDropped, "the rule does not cover the repository any more"}
	}
	d.to = t.remote
	if d.row.deletion {
		return d.remove(ctx)
	}
	if d.row.state == registry.ForwardAnnounced {
		if err := d.wasStored(ctx); err != nil {
			return err
		}
	}
	d.done = make(map[registry.Digest]bool)
	m, err := d.manifest(ctx, d.row.digest)
	if end, ok := errors.AsType[endedError](err); ok && d.row.state == registry.ForwardAnnounced {
		end.text = notStored
		return end
	}
	if err != nil {
		return err
	}
	ref := registry.Reference{Digest: m.Digest}
	if d.row.tag != "" {
		ref = registry.Reference{Tag: d.row.tag}
	}
	theirs, err := d.h.TagDigest(ctx, d.to, ref, d.via())
	if err != nil {
		return refused(err)
	}
	// An attempt before this one, or somebody else, was faster. It may still lack what
	// is below, if it mirrors us.
	there := theirs == m.Digest
	var cond registry.Condition
	if !there && d.row.tag != "" && d.r.Conflict == ConflictKeep {
		if err := d.mayReplace(ctx, theirs); err != nil {
			return err
		}
		cond = registry.Condition{Match: theirs, Absent: theirs == ""}
	}
	if err := d.below(ctx, m, 0); err != nil {
		return refused(err)
	}
	if there {
		return nil
	}
	if err := d.mayArrive(ctx); err != nil {
		return err
	}
	return refused(d.h.PutManifest(ctx, d.to, ref, m, cond, d.via()))
}

// wasStored is an endedError if nobody has said what became of a push and its tag was
// never here: it was refused. That its manifest is here says nothing, other tags may
// have it.
func (d *delivery) wasStored(ctx context.Context) error {
	if d.row.tag == "" {
		return nil
	}
	m, err := d.s.catalog.Manifest(ctx, installation, d.row.repo, registry.ManifestQuery{Ref: registry.Reference{Tag: d.row.tag}, NoBytes: true})
	if err == nil && m.Digest == d.row.digest {
		return nil
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("reading a tag: %w", err)
	}
	switch was, err := d.wasHere(ctx, d.row.digest); {
	case err != nil && !gone(err):
		return err
	case !was:
		return endedError{registry.ForwardDropped, notStored}
	}
	return nil
}

// wasHere reports whether the tag ever pointed to digest.
func (d *delivery) wasHere(ctx context.Context, digest registry.Digest) (bool, error) {
	history, err := d.s.catalog.TagHistory(ctx, installation, d.row.repo, d.row.tag, 1000)
	if err != nil {
		return false, fmt.Errorf("reading what a tag was: %w", err)
	}
	for _, h := range history {
		if h.Digest == digest {
			return true, nil
		}
	}
	return false, nil
}

// via names all who have forwarded the push, us last.
func (d *delivery) via() string {
	if d.row.via == "" {
		return d.s.id
	}
	return d.row.via + ", " + d.s.id
}

// manifest returns a manifest that is here.
func (d *delivery) manifest(ctx context.Context, digest registry.Digest) (registry.Manifest, error) {
	m, err := d.s.catalog.Manifest(ctx, installation, d.row.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: digest}})
	if gone(err) {
		return m, endedError{registry.ForwardDropped, fmt.Sprintf("manifest %s is not here any more", digest)}
	}
	return m, err
}

// gone reports whether an error says that content is not here.
func gone(err error) bool {
	return errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrBlobUnknown)
}

// refused gives an error of the other registry the meaning it has for a push. What it
// says of the state of its tags may be otherwise the next time; rights may be given.
func refused(err error) error {
	var no *upstream.Refusal
	if errors.As(err, &no) && no.Status != http.StatusPreconditionFailed {
		return endedError{registry.ForwardRefused, no.Error()}
	}
	return err
}

// mayReplace returns an endedError if the tag there was never ours.
func (d *delivery) mayReplace(ctx context.Context, theirs registry.Digest) error {
	if theirs == "" {
		return nil
	}
	if was, err := d.wasHere(ctx, theirs); err != nil || was {
		return err
	}
	return endedError{registry.ForwardKept, fmt.Sprintf("the tag is %s there, which it never was here", theirs)}
}

// below sends what a manifest refers to.
func (d *delivery) below(ctx context.Context, m registry.Manifest, depth int) error {
	if depth > maxDepth {
		return endedError{registry.ForwardRefused, fmt.Sprintf("%s lies deeper than %d levels of manifests", m.Digest, maxDepth)}
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	for _, ref := range info.References {
		switch {
		case ref.Optional || d.done[ref.Digest]:
			continue
		case ref.Manifest:
			err = d.child(ctx, ref, depth)
		default:
			err = d.blob(ctx, ref.Digest)
		}
		if err != nil {
			return err
		}
		d.done[ref.Digest] = true
	}
	return nil
}

// child sends what an index lists: a manifest, or a blob as buildkit's caches have. A
// part that is not here is one that the other registry has, if it is a mirrored one.
func (d *delivery) child(ctx context.Context, ref registry.ManifestReference, depth int) error {
	by := registry.Reference{Digest: ref.Digest}
	theirs, err := d.h.TagDigest(ctx, d.to, by, d.via())
	if err != nil {
		return err
	}
	m, err := d.s.catalog.Manifest(ctx, installation, d.row.repo, registry.ManifestQuery{Ref: by})
	if gone(err) && theirs == ref.Digest {
		return nil
	}
	if gone(err) {
		return d.blob(ctx, ref.Digest)
	}
	if err != nil {
		return err
	}
	if err := d.below(ctx, m, depth+1); err != nil || theirs == ref.Digest {
		return err
	}
	return d.h.PutManifest(ctx, d.to, by, m, registry.Condition{}, d.via())
}

// uploading is where an upload goes on.
type uploading struct {
	Digest   registry.Digest `json:"digest"`
	Location string          `json:"location"`
}

// blob sends a blob unless the other registry has it.
func (d *delivery) blob(ctx context.Context, digest registry.Digest) error {
	has, err := d.h.HasBlob(ctx, d.to, digest, d.via())
	if err != nil || has {
		return err
	}
	b, err := d.s.catalog.Blob(ctx, installation, d.row.repo, digest)
	if gone(err) {
		return endedError{registry.ForwardDropped, fmt.Sprintf("%s is not here any more, and not there", digest)}
	}
	if err != nil {
		return err
	}
	if b.Inline != nil {
		return d.bytes(ctx, digest, int64(len(b.Inline)), func(offset, _ int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b.Inline[offset:])), nil
		})
	}
	return d.bytes(ctx, digest, b.Size, func(offset, n int64) (io.ReadCloser, error) {
		return d.s.blobs.Open(ctx, b.Stored, registry.Range{Offset: offset, Length: n})
	})
}

// bytes uploads a blob in pieces, from where an earlier attempt has come to.
func (d *delivery) bytes(ctx context.Context, digest registry.Digest, size int64, open func(offset, n int64) (io.ReadCloser, error)) error {
	u, err := d.resume(ctx, digest, size)
	if err != nil {
		return err
	}
	if u == nil {
		if u, err = d.h.StartUpload(ctx, d.to, digest, ""); err != nil || u == nil {
			return err
		}
		if err := d.note(ctx, digest, u); err != nil {
			return err
		}
	}
	for u.Offset < size {
		// The transport may open the body when Append has returned: u is another by then.
		offset, n := u.Offset, min(uploadChunk, size-u.Offset)
		var body *sending
		u, err = d.h.Append(ctx, d.to, u, n, func() io.ReadCloser {
			body = &sending{open: func() (io.ReadCloser, error) { return open(offset, n) }}
			return &paced{body, ctx, d.s, d.r}
		})
		if err != nil {
			if body != nil && body.failed() != nil {
				return fmt.Errorf("reading %s: %w", digest, body.failed())
			}
			return err
		}
		d.s.meters.forwardedBytes.Add(n)
		if err := d.note(ctx, digest, u); err != nil {
			return err
		}
	}
	return d.h.Finish(ctx, d.to, u, digest)
}

// resume returns the upload that an earlier attempt has left, nil if there is none.
func (d *delivery) resume(ctx context.Context, digest registry.Digest, size int64) (*upstream.Upload, error) {
	var last uploading
	if d.row.progress == "" || json.Unmarshal([]byte(d.row.progress), &last) != nil || last.Digest != digest {
		return nil, nil //nolint:nilnil // there is none
	}
	d.row.progress = ""
	u, err := d.h.UploadStatus(ctx, d.to, last.Location)
	var no *upstream.Refusal
	if errors.Is(err, registry.ErrManifestUnknown) || errors.As(err, &no) {
		return nil, nil //nolint:nilnil // it was given up there
	}
	if err != nil {
		return nil, err
	}
	if u.Offset > size {
		return nil, nil //nolint:nilnil // that is not what we sent
	}
	d.s.meters.forwardResumed.Add(u.Offset)
	return u, nil
}

// note remembers where an upload goes on.
func (d *delivery) note(ctx context.Context, digest registry.Digest, u *upstream.Upload) error {
	b, err := json.Marshal(uploading{digest, u.Location})
	if err != nil {
		return err
	}
	open, err := d.s.store.forwardProgress(ctx, d.row.seq, string(b))
	if err != nil {
		return fmt.Errorf("noting where an upload goes on: %w", err)
	}
	return orGivenUp(open)
}

// mayArrive notes that the other registry may have the push from now on, unless it was
// given up.
func (d *delivery) mayArrive(ctx context.Context) error {
	open, err := d.s.store.sendForward(ctx, d.row.seq)
	if err != nil {
		return fmt.Errorf("noting that a push is on its way: %w", err)
	}
	return orGivenUp(open)
}

func orGivenUp(open bool) error {
	if open {
		return nil
	}
	return endedError{registry.ForwardDropped, givenUp}
}

// sending is a body that is opened when it is read, and remembers why it could not be.
// A transport may read it, and close it, when there is an answer already.
type sending struct {
	open func() (io.ReadCloser, error)

	mu   sync.Mutex // guards all below
	from io.ReadCloser
	err  error
}

func (b *sending) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.from == nil && b.err == nil {
		b.from, b.err = b.open()
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *sending) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = fs.ErrClosed
	}
	if b.from == nil {
		return nil
	}
	return b.from.Close()
}

// failed returns why the bytes could not be read, nil if that is not our doing.
func (b *sending) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.err, fs.ErrClosed) {
		return nil
	}
	return b.err
}
