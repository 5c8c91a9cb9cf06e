package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// soaker is a client that owns some repositories: what is in them it alone decides,
// so it knows what has to be there. What it pushes others have, too.
type soaker struct {
	*soakReplica
	s     *soak
	rand  *rand.Rand
	repos []*soakRepo
	ops   int
	n     int // manifests made
	name  string
}

// soakRepo is what its owner knows of a repository.
type soakRepo struct {
	name      registry.Name
	tags      map[registry.Tag]registry.Digest
	manifests map[registry.Digest]soakManifest // all that were ever pushed and may be there
	untagged  map[registry.Digest]untagged     // that had a tag, and since when they have none
	deleted   map[registry.Digest]time.Time    // and when
	listed    map[registry.Digest]bool         // that an index lists, or did
}

type soakManifest struct {
	put      registry.ManifestPut
	blobs    []registry.Digest
	children []registry.Digest
}

type untagged struct {
	at  time.Time
	tag registry.Tag // the last, "" if it was part of an index
}

func newSoaker(s *soak, r *soakReplica, i int, seed uint64) *soaker {
	w := &soaker{soakReplica: r, s: s, rand: rand.New(rand.NewPCG(seed, uint64(i))), name: fmt.Sprint(i)}
	for n := range 2 {
		w.repos = append(w.repos, emptySoakRepo(soakRepoName(i, n)))
	}
	return w
}

func soakRepoName(worker, n int) registry.Name {
	return registry.Name(fmt.Sprintf("team%d/app%d", worker, n))
}

func emptySoakRepo(name registry.Name) *soakRepo {
	return &soakRepo{
		name: name, tags: map[registry.Tag]registry.Digest{}, manifests: map[registry.Digest]soakManifest{},
		untagged: map[registry.Digest]untagged{}, deleted: map[registry.Digest]time.Time{}, listed: map[registry.Digest]bool{},
	}
}

// needs adds the blobs that a manifest needs.
func (r *soakRepo) needs(d registry.Digest, all map[registry.Digest]bool) {
	m := r.manifests[d]
	for _, b := range m.blobs {
		all[b] = true
	}
	for _, child := range m.children {
		r.needs(child, all)
	}
}

// isTagged reports whether a tag needs a manifest.
func (r *soakRepo) isTagged(d registry.Digest) bool {
	for _, of := range r.tags {
		if of == d || slices.Contains(r.manifests[of].children, d) {
			return true
		}
	}
	return false
}

// untag notes that a tag does not point to what it did any more.
func (r *soakRepo) untag(tag registry.Tag, at time.Time) {
	d, ok := r.tags[tag]
	if !ok {
		return
	}
	delete(r.tags, tag)
	for _, x := range append([]registry.Digest{d}, r.manifests[d].children...) {
		if !r.isTagged(x) {
			r.untagged[x] = untagged{at: at}
			if x == d {
				r.untagged[x] = untagged{at, tag}
			}
		}
	}
}

func (r *soakRepo) tag(tag registry.Tag, d registry.Digest, at time.Time) {
	if r.tags[tag] != d {
		r.untag(tag, at)
	}
	r.tags[tag] = d
	for _, x := range append([]registry.Digest{d}, r.manifests[d].children...) {
		delete(r.untagged, x)
	}
}

// forget forgets what nobody can judge any more.
func (r *soakRepo) forget(now time.Time) {
	for d, u := range r.untagged {
		if now.Sub(u.at) > 2*soakUndo {
			delete(r.untagged, d)
		}
	}
	for d, at := range r.deleted {
		if now.Sub(at) > 2*soakUndo {
			delete(r.deleted, d)
		}
	}
	for d := range r.manifests {
		_, was := r.untagged[d]
		if _, gone := r.deleted[d]; !was && !gone && !r.isTagged(d) {
			delete(r.manifests, d)
		}
	}
}

// pickKey returns one of the keys of a map, the zero value if there is none.
func pickKey[K ~string, V any](r *rand.Rand, m map[K]V) (k K) {
	if keys := slices.Sorted(maps.Keys(m)); len(keys) > 0 {
		k = keys[r.IntN(len(keys))]
	}
	return k
}

// try runs an operation and counts it.
func (w *soaker) try(kind int, op func() error) error {
	w.ops++
	return w.s.do(kind, w.rand, op)
}

// within returns err, which must not be until a time has passed since a moment; it
// is nil if it has passed.
func (w *soaker) within(since time.Time, d time.Duration, err error) error {
	if err == nil || !w.s.jumps && w.s.now().Sub(since) < d {
		return err
	}
	w.s.late.Add(1)
	return nil
}

// operate does one thing at random.
func (w *soaker) operate(ctx context.Context) error {
	r := w.repos[w.rand.IntN(len(w.repos))]
	r.forget(w.s.now())
	tag := registry.Tag(fmt.Sprintf("v%d", w.rand.IntN(5)))
	var err error
	switch n := w.rand.IntN(100); {
	case n < 30:
		err = w.push(ctx, r, tag)
	case n < 34:
		err = w.pushIndex(ctx, r, "multi")
	case n < 42:
		err = w.move(ctx, r, tag)
	case n < 54:
		if tag = pickKey(w.rand, r.tags); tag != "" {
			err = w.pull(ctx, r, tag)
		}
	case n < 62:
		err = w.visit(ctx)
	case n < 70:
		err = w.deleteTag(ctx, r)
	case n < 78:
		err = w.deleteManifest(ctx, r)
	case n < 86:
		err = w.undelete(ctx, r)
	case n < 90:
		err = w.rollback(ctx, r)
	case n < 94:
		err = w.unlink(ctx, r)
	case n < 97:
		err = w.deleteRepository(ctx, r)
	case n < 98:
		err = w.try(soakDelete, func() error { return w.catalog.Purge(ctx, prover, r.name) })
		if errors.Is(err, registry.ErrNameUnknown) {
			err = nil
		}
		clear(r.untagged)
		clear(r.deleted)
	default:
		err = w.still(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("client %s, %s at %v: %w", w.name, r.name, w.s.now().Sub(w.s.at), err)
	}
	return nil
}

// blob makes content known in a repository, in one of the ways in which clients do,
// and returns since when it was promised.
func (w *soaker) blob(ctx context.Context, r *soakRepo, content []byte) (d registry.Digest, since time.Time, err error) {
	d = registry.SHA256.FromBytes(content)
	how := w.rand.IntN(3)
	since = w.s.now()
	switch how {
	case 0:
		err = w.try(soakPush, func() error { _, err := w.catalog.Blob(ctx, prover, r.name, d); return err })
	case 1:
		from := soakRepoName(w.rand.IntN(8), w.rand.IntN(2))
		err = w.try(soakPush, func() error { _, err := w.catalog.Mount(ctx, prover, r.name, d, from); return err })
	default:
		err = registry.ErrBlobUnknown
	}
	if !errors.Is(err, registry.ErrBlobUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		return d, since, err
	}
	since = w.s.now()
	err = w.try(soakPush, func() error {
		u, err := w.blobs.Start(ctx, "", registry.SHA256)
		if err != nil {
			return err
		}
		s, err := w.blobs.Commit(ctx, u, bytes.NewReader(content), d)
		if err == nil {
			_, err = w.catalog.Link(ctx, prover, r.name, s)
		}
		return err
	})
	return d, since, err
}

func soakManifestOf(mediaType string, m map[string]any) registry.ManifestPut {
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: mediaType, Bytes: b}
}

// push pushes an image that nobody has, of blobs that everybody has.
func (w *soaker) push(ctx context.Context, r *soakRepo, tag registry.Tag) error {
	var m soakManifest
	var list []registry.Descriptor
	first := w.s.now()
	for range 1 + w.rand.IntN(3) {
		content := w.s.content(w.rand)
		d, since, err := w.blob(ctx, r, content)
		if err != nil {
			return fmt.Errorf("pushing a blob: %w", err)
		}
		if len(list) == 0 || since.Before(first) {
			first = since
		}
		m.blobs = append(m.blobs, d)
		list = append(list, registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: int64(len(content))})
	}
	w.n++
	list[0].MediaType = "application/vnd.oci.image.config.v1+json"
	m.put = soakManifestOf(registry.TypeManifest, map[string]any{
		"config": list[0], "layers": list[1:], "annotations": map[string]string{"n": fmt.Sprint(w.name, "/", w.n)},
	})
	if len(list) == 1 {
		m.put = soakManifestOf(registry.TypeManifest, map[string]any{
			"config": list[0], "layers": []registry.Descriptor{}, "annotations": map[string]string{"n": fmt.Sprint(w.name, "/", w.n)},
		})
	}
	return w.put(ctx, r, m, tag, first)
}

// put pushes a manifest whose content is there since a moment at least.
func (w *soaker) put(ctx context.Context, r *soakRepo, m soakManifest, tag registry.Tag, since time.Time) error {
	m.put.Tags = []registry.Tag{tag}
	at := w.s.now()
	err := w.try(soakPush, func() error { _, err := w.catalog.PutManifest(ctx, prover, r.name, m.put); return err })
	if errors.Is(err, registry.ErrManifestBlobUnknown) {
		return w.within(since, soakLease, fmt.Errorf("I2: what was there %v ago: %w", w.s.now().Sub(since), err))
	}
	if err != nil {
		return fmt.Errorf("pushing a manifest: %w", err)
	}
	r.manifests[m.put.Digest] = m
	delete(r.deleted, m.put.Digest)
	for _, child := range m.children {
		r.listed[child] = true
	}
	r.tag(tag, m.put.Digest, at)
	return nil
}

func (w *soaker) pushIndex(ctx context.Context, r *soakRepo, tag registry.Tag) error {
	var m soakManifest
	var list []registry.Descriptor
	for _, t := range slices.Sorted(maps.Keys(r.tags)) {
		d := r.tags[t]
		child := r.manifests[d]
		if len(child.children) > 0 || slices.Contains(m.children, d) || w.rand.IntN(2) == 0 {
			continue
		}
		m.children = append(m.children, d)
		list = append(list, registry.Descriptor{MediaType: child.put.MediaType, Digest: d, Size: int64(len(child.put.Bytes))})
	}
	if len(list) == 0 {
		return nil
	}
	m.put = soakManifestOf(registry.TypeIndex, map[string]any{"manifests": list})
	return w.put(ctx, r, m, tag, w.s.now())
}

// move lets a tag point to what another one does.
func (w *soaker) move(ctx context.Context, r *soakRepo, tag registry.Tag) error {
	from := pickKey(w.rand, r.tags)
	if from == "" || from == tag {
		return nil
	}
	return w.put(ctx, r, r.manifests[r.tags[from]], tag, w.s.now())
}

// pull reads all that a tag of this client needs.
func (w *soaker) pull(ctx context.Context, r *soakRepo, tag registry.Tag) error {
	want := r.tags[tag]
	return w.try(soakPull, func() error {
		m, err := w.catalog.Manifest(ctx, prover, r.name, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
		if err != nil || m.Digest != want {
			return fmt.Errorf("I1: tag %s is %s, want %s: %w", tag, m.Digest, want, err)
		}
		return w.pullManifest(ctx, r, want)
	})
}

func (w *soaker) pullManifest(ctx context.Context, r *soakRepo, d registry.Digest) error {
	m, err := w.catalog.Manifest(ctx, prover, r.name, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
	if err != nil || registry.SHA256.FromBytes(m.Bytes) != d {
		return fmt.Errorf("I1: manifest %s: %w", d, err)
	}
	known := r.manifests[d]
	for _, child := range known.children {
		if err := w.pullManifest(ctx, r, child); err != nil {
			return err
		}
	}
	for _, b := range known.blobs {
		s, err := w.catalog.Blob(ctx, prover, r.name, b)
		if err != nil {
			return fmt.Errorf("I3: blob %s of manifest %s: %w", b, d, err)
		}
		content, err := w.read(ctx, s.Stored)
		if err != nil || registry.SHA256.FromBytes(content) != b {
			return fmt.Errorf("I5: blob %s of manifest %s at %s: %w", b, d, s.Locator, err)
		}
	}
	return nil
}

// visit reads a blob of somebody else, who may delete it at the same time.
func (w *soaker) visit(ctx context.Context) error {
	repo := soakRepoName(w.rand.IntN(8), w.rand.IntN(2))
	content := w.s.content(w.rand)
	d := registry.SHA256.FromBytes(content)
	return w.try(soakPull, func() error {
		since := w.s.now()
		s, err := w.catalog.Blob(ctx, prover, repo, d)
		if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrNameUnknown) {
			return nil
		}
		if err != nil {
			return err
		}
		got, err := w.read(ctx, s.Stored)
		if err != nil {
			return w.within(since, soakFence, fmt.Errorf("blob %s of %s, which was at %s: %w", d, repo, s.Locator, err))
		}
		if !bytes.Equal(got, content) {
			return fmt.Errorf("I5: blob %s of %s is other bytes", d, repo)
		}
		return nil
	})
}
