package memory

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
)

// CatalogOptions configure a [Catalog].
type CatalogOptions struct {
	// AllowSparse accepts manifests whose content is missing.
	AllowSparse bool
	// AllowWrongSizes accepts manifests that tell wrong sizes of their content.
	AllowWrongSizes bool
	// Pools the blobs may be in, besides "".
	Pools []registry.Pool
	// Reaper removes second copies. nil if they may stay.
	Reaper registry.Reaper
	// Access says who may do what. nil: everybody may do everything.
	Access *access.Policy
}

// Catalog implements [registry.Catalog]. It never gives up a copy that was in use:
// only second copies go to the Reaper.
type Catalog struct {
	options CatalogOptions
	keys    []registry.Key

	mu    sync.Mutex // guards all below
	repos map[registry.Name]*repository
	// copies are what repositories link, one per pool and digest.
	copies  map[place]registry.Stored
	garbage []registry.Stored         // copies to remove
	removed map[registry.Name]removed // repositories, each the last of its name
	damaged map[place]registry.Damage
	frozen  map[string]readOnly
	who     identities
	pins    map[string]pin
	audit   []registry.AuditEvent // ordered by id

	announced []registry.Announcement // ordered by id
	trusted   []registry.TrustedKey   // ordered by ID
	uploads   map[registry.UploadID]openUpload
}

var _ registry.Catalog = (*Catalog)(nil)

type place struct {
	pool   registry.Pool
	digest registry.Digest
}

type repository struct {
	manifests map[registry.Digest]*manifest
	tags      map[registry.Tag]registry.Digest
	history   map[registry.Tag][]registry.TagChange // the latest change last
	links     map[registry.Digest]registry.Blob
	pulls     map[pullKey]registry.Pull
	trash     map[registry.Digest]discarded
	cached    map[registry.Digest]cached // manifests that nobody has pushed
	likes     map[like]bool
}

type manifest struct {
	info   registry.ManifestInfo
	bytes  []byte // never change
	pushed int64  // microseconds since 1970
}

// NewCatalog returns an empty catalog.
func NewCatalog(o CatalogOptions) *Catalog {
	key := registry.Key{ID: rand.Text(), Secret: make([]byte, 32)}
	rand.Read(key.Secret) // never fails, see crypto/rand
	return &Catalog{
		options: o,
		keys:    []registry.Key{key},
		repos:   make(map[registry.Name]*repository),
		copies:  make(map[place]registry.Stored),
		removed: make(map[registry.Name]removed),
		damaged: make(map[place]registry.Damage),
		frozen:  make(map[string]readOnly),
		who:     newIdentities(),
		pins:    make(map[string]pin),
	}
}

// lock takes c.mu unless ctx has ended. If it returns no error the caller
// unlocks.
func (c *Catalog) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	return nil
}

// repo returns a repository that exists. c.mu must be held.
func (c *Catalog) repo(name registry.Name) (*repository, error) {
	if r, ok := c.repos[name]; ok {
		return r, nil
	}
	return nil, registry.ErrNameUnknown
}

// ensure returns the repository, which exists from now on. c.mu must be held.
func (c *Catalog) ensure(name registry.Name) *repository {
	if _, ok := c.repos[name]; !ok {
		c.repos[name] = &repository{
			manifests: make(map[registry.Digest]*manifest),
			tags:      make(map[registry.Tag]registry.Digest),
			history:   make(map[registry.Tag][]registry.TagChange),
			links:     make(map[registry.Digest]registry.Blob),
			pulls:     make(map[pullKey]registry.Pull),
			trash:     make(map[registry.Digest]discarded),
			cached:    make(map[registry.Digest]cached),
			likes:     make(map[like]bool),
		}
	}
	return c.repos[name]
}

// page returns the part of keys, which need no order, that p asks for.
func page[T ~string](keys []T, p registry.Page[T]) registry.List[T] {
	slices.Sort(keys)
	from, found := slices.BinarySearch(keys, p.After)
	if found {
		from++
	}
	keys = keys[from:]
	n := min(p.Limit, len(keys))
	return registry.List[T]{Items: keys[:n], More: n < len(keys)}
}

// Repositories implements [registry.Repositories].
func (c *Catalog) Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.Name]{}, err
	}
	defer c.mu.Unlock()
	v := c.options.Access.Viewer(a)
	return page(slices.DeleteFunc(slices.Collect(maps.Keys(c.repos)), func(n registry.Name) bool { return !v.Sees(n) }), p), nil
}

// Admit implements [registry.Repositories].
func (c *Catalog) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActCreate); err != nil {
		return "", err
	}
	if err := c.change(ctx, repo); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	return registry.PoolOf(repo, c.options.Pools), nil
}

// Tags implements [registry.Tags].
func (c *Catalog) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return registry.List[registry.Tag]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.Tag]{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.List[registry.Tag]{}, err
	}
	return page(slices.Collect(maps.Keys(r.tags)), p), nil
}

// TagHistory implements [registry.Tags].
func (c *Catalog) TagHistory(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, limit int) ([]registry.TagChange, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return nil, err
	}
	h := slices.Clone(r.history[t])
	slices.Reverse(h)
	return h[:min(limit, len(h))], nil
}

// moves is point for a tag of repo that may point to something else: that is recorded.
func (c *Catalog) moves(a registry.Actor, repo registry.Name, r *repository, t registry.Tag, d registry.Digest) {
	if old := r.tags[t]; old != "" && old != d {
		at := time.Now().UnixMicro()
		c.keep(registry.AuditEvent{ID: registry.NewAuditID(at), At: at, Actor: a.ID, Source: sourceOf(a), Action: registry.TagMoved, Object: registry.TagMove(repo, t, old, d), Result: "ok"})
	}
	r.point(a, t, d)
}

func sourceOf(a registry.Actor) string {
	if a.Request == nil {
		return ""
	}
	return a.Request.ClientIP
}

// point lets tag t point to d, or removes it if d is "".
func (r *repository) point(a registry.Actor, t registry.Tag, d registry.Digest) {
	if r.tags[t] == d {
		return
	}
	at := time.Now().UnixMicro()
	if h := r.history[t]; len(h) > 0 {
		at = max(at, h[len(h)-1].At) // the clock may have been set back
	}
	r.history[t] = append(r.history[t], registry.TagChange{At: at, Actor: a.ID, Digest: d})
	if d == "" {
		delete(r.tags, t)
	} else {
		r.tags[t] = d
	}
}

// UploadKeys implements [registry.Keyring].
func (c *Catalog) UploadKeys(ctx context.Context) ([]registry.Key, error) {
	return c.keys, ctx.Err()
}

// Check implements [registry.Checker].
func (c *Catalog) Check(ctx context.Context) (registry.Health, error) {
	return registry.Health{}, ctx.Err()
}
