package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Work is done in pieces, so that no transaction is long.
const (
	takeManifests = 16
	takeBlobs     = 32
	takeTags      = 32
)

// maxNesting is how deep indexes may lie in each other.
const maxNesting = 32

// takingRepo is one take-over of a repository.
type takingRepo struct {
	c     *Catalog
	ctx   context.Context // bounds it
	blobs LayoutBlobs
	adoption
	taken Taken

	seen    map[registry.Digest]bool // manifests; whether they can be tagged
	linked  map[registry.Digest]bool // blobs; whether they are there
	pending []layoutManifest
}

// layoutManifest is a manifest that waits to be stored.
type layoutManifest struct {
	put   *put
	blobs []registry.Digest
}

// takeOver makes the catalog hold what the layout of repo says, and reports what
// it did. What was removed or moved here since an earlier take-over stays so.
// After an interruption it goes on.
func (c *Catalog) takeOver(ctx context.Context, blobs LayoutBlobs, repo registry.Name) (Taken, error) {
	old, err := c.readAdoption(ctx, repo)
	if err != nil {
		return Taken{}, err
	}
	r := &takingRepo{
		c: c, ctx: ctx, blobs: blobs, taken: Taken{Repo: repo},
		adoption: adoption{repo: repo, pool: registry.PoolOf(repo, c.opt.Pools), state: adoptionBegun},
		seen:     make(map[registry.Digest]bool), linked: make(map[registry.Digest]bool),
	}
	if r.stamp, err = blobs.LayoutStamp(ctx, r.pool, repo); err != nil || old.settled(r.stamp) {
		return r.taken, ignoreGone(err)
	}
	index, err := blobs.LayoutIndex(ctx, r.pool, repo)
	if err != nil {
		return r.taken, ignoreGone(err)
	}
	r.hash = registry.SHA256.FromBytes(index).Encoded()
	if old.state == adoptionDone && old.hash == r.hash {
		old.stamp = r.stamp
		return r.taken, c.saveAdoption(ctx, old)
	}
	if old.state != adoptionBegun {
		if err := c.saveAdoption(ctx, r.adoption); err != nil {
			return r.taken, err
		}
	}
	if err := r.run(index); err != nil {
		return r.taken, fmt.Errorf("taking over repository %s: %w", repo, err)
	}
	r.state = adoptionDone
	r.taken.Problems = r.count
	for _, p := range r.list {
		c.log.Warn("taking over a repository", "repository", repo, "problem", p)
	}
	return r.taken, c.saveAdoption(ctx, r.adoption)
}

func (r *takingRepo) run(index []byte) error {
	var list imgspec.Index
	if err := json.Unmarshal(index, &list); err != nil || list.SchemaVersion != 2 {
		r.problems.add("index.json is not an image index: nothing of it was taken over")
		return nil
	}
	tags := make(map[registry.Tag]registry.Digest)
	for _, d := range list.Manifests {
		if err := r.manifest(d, 0); err != nil {
			return err
		}
		name := d.Annotations[imgspec.AnnotationRefName]
		tag, err := registry.ParseTag(name)
		_, twice := tags[tag]
		switch {
		case name == "":
		case err != nil:
			r.problems.add("%s: its name %q is not a tag", d.Digest, name)
		case twice:
			r.problems.add("tag %s: the index lists it more than once", tag)
		default:
			tags[tag] = d.Digest
		}
	}
	if err := r.flush(); err != nil {
		return err
	}
	if err := r.tags(tags); err != nil {
		return err
	}
	return r.forget(tags)
}

const sqlAdopted = `SELECT 1 FROM adopted_manifests WHERE repo = $1 AND digest = $2`

// manifest takes over what a descriptor names, what it needs first.
func (r *takingRepo) manifest(d registry.Descriptor, depth int) error {
	if _, ok := r.seen[d.Digest]; ok {
		return nil
	}
	r.seen[d.Digest] = false
	if depth > maxNesting {
		r.problems.add("%s: indexes lie more than %d deep in each other", d.Digest, maxNesting)
		return nil
	}
	packed, err := pack(d.Digest)
	if err != nil {
		r.problems.add("the index lists %.100q, which is not a digest", string(d.Digest))
		return nil
	}
	b, modified, err := r.read(d.Digest)
	if err != nil || b == nil {
		return err
	}
	mediaType := manifestType(d.MediaType, b)
	info, err := registry.ParseManifest(mediaType, b)
	if err != nil {
		r.problems.add("manifest %s: %v", d.Digest, err)
		return nil
	}
	blobs, err := r.children(b, info, depth)
	if err != nil {
		return err
	}
	r.seen[d.Digest] = true
	known, err := exists(r.c.db.QueryRow(r.ctx, sqlAdopted, string(r.repo), packed))
	if err != nil || known { // and if it is not there it was removed since
		return err
	}
	p, err := r.c.newPut(registry.Actor{ID: TakeoverActor}, r.repo, registry.ManifestPut{Digest: d.Digest, MediaType: mediaType, Bytes: b})
	if err != nil {
		r.seen[d.Digest] = false
		r.problems.add("manifest %s: %v", d.Digest, err)
		return nil
	}
	p.takenOver = max(modified, 1)
	r.pending = append(r.pending, layoutManifest{p, blobs})
	if len(r.pending) >= takeManifests {
		return r.flush()
	}
	return nil
}

// children takes over the manifests that an index lists, and returns the blobs
// that a manifest needs.
func (r *takingRepo) children(b []byte, info registry.ManifestInfo, depth int) ([]registry.Digest, error) {
	var index struct{ Manifests []registry.Descriptor }
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, nil // ParseManifest has read it
	}
	types := make(map[registry.Digest]string, len(index.Manifests))
	for _, d := range index.Manifests {
		types[d.Digest] = d.MediaType
	}
	var blobs []registry.Digest
	for _, ref := range info.References {
		if !ref.Manifest || !isManifestType(types[ref.Digest]) {
			blobs = append(blobs, ref.Digest)
			continue
		}
		if err := r.manifest(registry.Descriptor{MediaType: types[ref.Digest], Digest: ref.Digest}, depth+1); err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

func isManifestType(t string) bool {
	return slices.Contains([]string{registry.TypeManifest, registry.TypeIndex, registry.TypeDockerManifest, registry.TypeDockerList}, t)
}

// manifestType returns the media type of a manifest: what its descriptor says or,
// as some tools leave that out, what it says itself.
func manifestType(said string, b []byte) string {
	if said != "" {
		return said
	}
	var m struct {
		MediaType string
		Manifests json.RawMessage
	}
	switch err := json.Unmarshal(b, &m); {
	case err == nil && m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return registry.TypeIndex
	}
	return registry.TypeManifest
}

// read returns the bytes of a manifest and when its file was written; nil if they
// are not what they should be.
func (r *takingRepo) read(d registry.Digest) ([]byte, int64, error) {
	found, err := r.blobs.LayoutCopies(r.ctx, r.pool, r.repo, []registry.Digest{d})
	if err != nil {
		return nil, 0, err
	}
	if len(found) == 0 {
		r.problems.add("manifest %s: its file is missing", d)
		return nil, 0, nil
	}
	if found[0].Size > registry.MaxManifest {
		r.problems.add("manifest %s: it is larger than %d bytes", d, registry.MaxManifest)
		return nil, 0, nil
	}
	content, err := r.blobs.Open(r.ctx, found[0].Stored, registry.Whole)
	if errors.Is(err, registry.ErrBlobUnknown) {
		r.problems.add("manifest %s: its file is missing", d)
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer content.Close()
	b := make([]byte, found[0].Size)
	if _, err := io.ReadFull(content, b); err != nil {
		return nil, 0, err
	}
	if d.Algorithm().FromBytes(b) != d {
		r.problems.add("manifest %s: its file is damaged", d)
		return nil, 0, nil
	}
	return b, found[0].Modified, nil
}

// flush stores the manifests that wait, their blobs first.
func (r *takingRepo) flush() error {
	if err := r.link(); err != nil {
		return err
	}
	all := r.pending
	r.pending = nil
	if len(all) == 0 {
		return nil
	}
	err := r.c.db.WriteLow(r.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(append([]sqldb.Lock{usesRepo(r.repo)}, r.c.limits().quotaLocks(r.repo)...)...); err != nil {
			return err
		}
		for _, m := range all {
			// Another process may have taken it over meanwhile, and a user removed it since.
			if known, err := exists(tx.QueryRow(sqlAdopted, string(r.repo), m.put.digest)); err != nil {
				return err
			} else if known {
				continue
			}
			if err := m.put.apply(tx); err != nil {
				return err
			}
			if err := tx.Queue(sqlNoteAdopted, string(r.repo), m.put.digest); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing manifests: %w", err)
	}
	r.taken.Manifests += len(all)
	return nil
}

const sqlNoteAdopted = `INSERT INTO adopted_manifests (repo, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING`

// link makes the blobs of the manifests that wait known in the repository.
func (r *takingRepo) link() error {
	var blobs []registry.Digest
	for _, m := range r.pending {
		for _, d := range m.blobs {
			if _, ok := r.linked[d]; !ok {
				r.linked[d] = false
				blobs = append(blobs, d)
			}
		}
	}
	found, err := r.blobs.LayoutCopies(r.ctx, r.pool, r.repo, blobs)
	if err != nil {
		return err
	}
	for _, s := range found {
		r.linked[s.Digest] = true
		r.taken.Blobs++
		r.taken.Bytes += s.Size
	}
	slices.SortFunc(found, func(a, b registry.LayoutCopy) int { return cmp.Compare(a.Digest, b.Digest) })
	for part := range slices.Chunk(found, takeBlobs) {
		if err := r.linkPart(part); err != nil {
			return fmt.Errorf("linking blobs: %w", err)
		}
	}
	r.check()
	return nil
}

func (r *takingRepo) linkPart(part []registry.LayoutCopy) error {
	locks := []sqldb.Lock{usesRepo(r.repo)}
	for _, s := range part {
		locks = append(locks, decidesCopy(s.Pool, s.Digest))
	}
	locks = append(locks, r.c.limits().quotaLocks(r.repo)...)
	return r.c.db.WriteLow(r.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(locks...); err != nil {
			return err
		}
		// Another process may have taken it over meanwhile, and remove its files now, or
		// have done so.
		if open, err := exists(tx.QueryRow(sqlOpenAdoption, string(r.repo))); err != nil || !open {
			return cmp.Or(err, error(errClosed))
		}
		for _, s := range part {
			digest, err := pack(s.Digest)
			if err != nil {
				return err
			}
			var kept registry.Stored
			var damaged bool
			r.c.changesBlob(tx, r.repo, s.Digest)
			steps := r.c.linkSteps(registry.Actor{ID: TakeoverActor}, r.repo, s.Stored, digest, blobPushed, &kept, &damaged)
			if err := r.c.linkWithin(tx, r.repo, digest, steps, &kept, true); err != nil {
				return err
			}
			if kept.Locator == "" {
				return registry.ErrUnavailable.With("%s is being removed", s.Digest)
			}
		}
		return nil
	})
}

const sqlOpenAdoption = `SELECT 1 FROM adoptions WHERE repo = $1 AND state <> 2`

// errClosed ends a take-over of files that are being removed.
var errClosed = registry.ErrUnavailable.With("what is left of this repository is being removed")

// check reports what the manifests that wait need and the layout lacks.
func (r *takingRepo) check() {
	for _, m := range r.pending {
		for _, ref := range m.put.refs {
			there, blob := r.linked[ref.Digest]
			if !blob {
				there = r.seen[ref.Digest]
			}
			if !there && !ref.Optional {
				r.problems.add("manifest %s: %s, which it needs, is missing or damaged", m.put.m.Digest, ref.Digest)
			}
		}
	}
}
