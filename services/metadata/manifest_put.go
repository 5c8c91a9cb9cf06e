package metadata

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// PutManifest stores m, what it refers to, and its tags, in one transaction.
func (c *Catalog) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	return c.putManifest(ctx, a, repo, m, nil)
}

// putManifest stores a manifest that was pushed, or fetched from an origin.
func (c *Catalog) putManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o *registry.Origin) (registry.ManifestInfo, error) {
	rights, err := c.mayPut(a, repo, m)
	if o != nil {
		rights, err = nil, c.allowPut(a, repo, true)
	}
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	p, err := c.newPut(a, repo, m)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	p.origin, p.rights = o, rights
	err = c.db.Write(ctx, p.run)
	if errors.Is(err, errAddsRepo) {
		p.addsRepo = true
		err = c.db.Write(ctx, p.run)
	}
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	return p.info, nil
}

// errAddsRepo ends an operation that would add a repository to those that are
// counted and has not the lock for that: it runs again with the lock, so that
// all others can do without.
var errAddsRepo = errors.New("the operation adds a repository")

// put is a PutManifest whose manifest was parsed and verified.
type put struct {
	c      *Catalog
	actor  registry.Actor
	repo   registry.Name
	m      registry.ManifestPut
	tags   []registry.Tag // each once
	rights putRights      // for each of tags; nil if none are needed
	info   registry.ManifestInfo
	digest []byte
	refs   []packedReference

	addsRepo bool // countsRepos is to be held
	// The columns that describe the manifest in a referrers list.
	subject     []byte // nil if none
	annotations any    // string or nil
	// takenOver is set for a manifest of somebody else's store, which is taken as it
	// is: when it was pushed there.
	takenOver int64
	origin    *registry.Origin // of a manifest that was fetched, nil if it was pushed
}

// packedReference is a reference with its digest as it is stored.
type packedReference struct {
	registry.ManifestReference
	packed  []byte
	missing bool
	size    int64 // that it has here, unless it is missing
}

func (c *Catalog) newPut(a registry.Actor, repo registry.Name, m registry.ManifestPut) (*put, error) {
	if len(m.Tags) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return nil, err
	}
	digest, err := pack(m.Digest)
	if err != nil {
		return nil, err
	}
	if m.Digest.Algorithm().FromBytes(m.Bytes) != m.Digest {
		return nil, registry.ErrDigestInvalid
	}
	p := &put{c: c, actor: a, repo: repo, m: m, info: info, digest: digest, refs: make([]packedReference, len(info.References))}
	p.tags = once(m.Tags)
	for i, r := range info.References {
		p.refs[i].ManifestReference = r
		if p.refs[i].packed, err = pack(r.Digest); err != nil {
			return nil, err
		}
	}
	p.subject, p.annotations, err = referrerColumns(info)
	return p, err
}

// referrerColumns returns what of info is stored for lists of referrers.
func referrerColumns(info registry.ManifestInfo) (subject []byte, annotations any, err error) {
	if info.Subject != "" {
		if subject, err = pack(info.Subject); err != nil {
			return nil, nil, err
		}
	}
	if len(info.Annotations) > 0 {
		b, err := json.Marshal(info.Annotations) // keys are sorted
		if err != nil {
			return nil, nil, fmt.Errorf("writing annotations: %w", err)
		}
		annotations = string(b)
	}
	return subject, annotations, nil
}

// run is the operation: one round trip to look, one to write.
func (p *put) run(tx *sqldb.Tx) error {
	locks := append([]sqldb.Lock{usesRepo(p.repo)}, decidesTags(p.repo, p.tags...)...)
	if p.addsRepo {
		locks = append(locks, countsRepos())
	}
	locks = append(locks, p.c.limits().quotaLocks(p.repo)...)
	if err := tx.Lock(locks...); err != nil {
		return err
	}
	return p.apply(tx)
}

// apply does what the locks were taken for.
func (p *put) apply(tx *sqldb.Tx) error {
	f, err := p.look(tx)
	if err != nil {
		return err
	}
	if err := p.mayTag(f); err != nil {
		return err
	}
	if !f.content && p.takenOver == 0 {
		if !p.addsRepo {
			return errAddsRepo
		}
		if err := p.c.limits().admitRepo(tx); err != nil {
			return err
		}
	}
	// What was fetched may lack content, what is pushed may not.
	if !f.manifest || f.fetched && p.origin == nil {
		if err := p.admit(tx, f); err != nil {
			return err
		}
	}
	if f.repo == 0 {
		if f.repo, err = p.c.makeRepo(tx, p.repo, p.actor); err != nil {
			return err
		}
	}
	ch := p.c.change()
	if f.manifest {
		if err := tx.Queue(sqlHealManifest, f.repo, p.digest, p.m.Bytes, len(p.m.Bytes)); err != nil {
			return fmt.Errorf("healing a manifest: %w", err)
		}
		ch.manifests = append(ch.manifests, rowKey{p.repo, string(p.m.Digest)})
	} else if err := p.store(tx, f.repo); err != nil {
		return err
	}
	for i, t := range p.tags {
		if bytes.Equal(f.tags[i], p.digest) {
			continue
		}
		if err := p.c.setTag(tx, f.repo, t, p.actor, p.digest); err != nil {
			return err
		}
		if f.tags[i] != nil {
			if err := p.c.untagged(tx, ch, f.repo, p.repo, f.tags[i]); err != nil {
				return err
			}
			if err := p.c.auditMove(tx, p.actor, p.repo, t, f.tags[i], p.digest); err != nil {
				return err
			}
		}
		ch.tags = append(ch.tags, rowKey{p.repo, string(t)})
	}
	ch.attach(tx)
	if err := p.markCached(tx, f); err != nil {
		return fmt.Errorf("recording where a manifest is from: %w", err)
	}
	return p.settle(tx, f)
}

// settle takes what the manifest needs, and the manifest if it has a tag, out of
// the queue of reviews; or else puts it there.
func (p *put) settle(tx *sqldb.Tx, f *found) error {
	pool := p.c.poolOf(p.repo)
	promised := p.c.promise(pool)
	var needed []any
	if !f.manifest {
		for _, r := range p.refs {
			needed = append(needed, r.packed)
		}
	}
	if len(p.tags) > 0 {
		needed = append(needed, p.digest)
	} else {
		if err := p.c.review(tx, f.repo, p.digest, reviewManifest, pool, promised, promised); err != nil {
			return err
		}
	}
	return sqldb.Padded(needed, func(part []any) error {
		return tx.Queue(sqlNoReviews(len(part)), append([]any{f.repo, promised, p.digest}, part...)...)
	})
}

// mayTag returns nil if the tags may be set to the manifest.
func (p *put) mayTag(f *found) error {
	for i, old := range f.tags {
		if err := p.rights.may(i, old != nil); err != nil {
			return err
		}
		if err := holds(p.m.If, old); err != nil {
			return err
		}
		if old == nil || bytes.Equal(old, p.digest) {
			continue
		}
		if err := p.c.limits().keepsTag(p.repo, p.tags[i]); err != nil {
			return err
		}
	}
	return nil
}

// admit refuses a manifest that needs what the repository knows neither as a
// linked blob nor as a manifest, or lies about it.
func (p *put) admit(tx *sqldb.Tx, f *found) error {
	if rest := p.lookFor(p.tables()[1], f); len(rest) > 0 {
		if err := tx.Run(rest...); err != nil {
			return fmt.Errorf("looking for a manifest's content: %w", err)
		}
	}
	for i := range p.refs {
		size, known := f.sizes[string(p.refs[i].packed)]
		p.refs[i].size, p.refs[i].missing = size, !known
	}
	if missing := p.missing(); len(missing) > 0 && !p.c.policies.Load().allowSparse && p.takenOver == 0 && p.origin == nil {
		return registry.ErrManifestBlobUnknown.Detailed(missing)
	}
	for _, r := range p.refs {
		if r.missing || p.c.policies.Load().allowWrongSizes || p.takenOver != 0 {
			continue
		}
		if err := r.CheckSize(r.size); err != nil {
			return err
		}
	}
	return nil
}

const sqlAddManifest = `

	INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, subject, annotations, payload)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// store adds the manifest and its references.
func (p *put) store(tx *sqldb.Tx, id int64) error {
	if p.takenOver == 0 {
		if err := p.c.announceRepo(tx, id, p.actor); err != nil {
			return err
		}
	}
	err := tx.Queue(sqlAddManifest, id, p.digest, p.info.MediaType, len(p.m.Bytes), p.pushed(),
		p.info.ArtifactType, nullable(p.subject), p.annotations, p.m.Bytes)
	if err != nil {
		return fmt.Errorf("storing a manifest: %w", err)
	}
	if err := p.addReferences(tx, id); err != nil {
		return fmt.Errorf("storing a manifest's references: %w", err)
	}
	if err := p.c.charge(tx, id, p.repo, p.digest, int64(len(p.m.Bytes)), p.takenOver != 0); err != nil {
		return err
	}
	if len(p.tags) == 0 {
		if err := p.c.announceManifest(tx, registry.ImageUpdated, id, string(p.m.Digest), p.digest, p.actor); err != nil {
			return err
		}
	}
	return p.c.tell(tx, ManifestStored, id, p.actor, p.digest)
}

func (p *put) pushed() int64 {
	if p.takenOver != 0 {
		return p.takenOver
	}
	return p.c.now()
}

// missing returns what the manifest can't do without.
func (p *put) missing() []registry.Digest {
	var all []registry.Digest
	for _, r := range p.refs {
		if r.missing && !r.Optional {
			all = append(all, r.Digest)
		}
	}
	return all
}

func (p *put) addReferences(tx *sqldb.Tx, id int64) error {
	return sqldb.Padded(p.refs, func(part []packedReference) error {
		args := append(make([]any, 0, 2+3*len(part)), id, p.digest)
		for _, r := range part {
			args = append(args, r.packed, r.Manifest, !r.missing)
		}
		return tx.Queue(sqlAddReferences(len(part)), args...)
	})
}

func sqlAddReferences(n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO manifest_references (repo_id, manifest, digest, is_manifest, required) VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("($1,$2," + sqldb.Placeholders(3+3*i, 3) + ")")
	}
	b.WriteString(" ON CONFLICT DO NOTHING")
	return b.String()
}

// exists reports whether a query found a row.
func exists(row sqldb.Row) (bool, error) {
	var one int
	err := row.Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking up a row: %w", err)
	}
	return true, nil
}
