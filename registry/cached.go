package registry

import "context"

// Cache is the part of [Catalog] about cached content: copies of what an upstream
// has, which can be fetched again. How much of it a pool keeps is limited by
// storage.cache; when there is more, what was not pulled for the longest time goes,
// and what costs more to fetch again stays longer.
//
// A manifest is cached if [Cache.PutCached] stored it and nobody has pushed it
// since into the same repository ([Manifests.PutManifest], also as the child of a
// pushed index). A blob counts as cached while only cached manifests need it.
// What was pushed is never evicted, nor is a manifest with a pushed referrer.
type Cache interface {
	// PutCached is [Manifests.PutManifest] for a manifest that was fetched from an
	// upstream, for whoever may read it. Everything it refers to may be missing. A manifest that was pushed
	// stays pushed.
	PutCached(ctx context.Context, a Actor, repo Name, m ManifestPut, o Origin) (ManifestInfo, error)

	// LinkCached is [Links.Link] for a blob that was fetched from an upstream.
	LinkCached(ctx context.Context, a Actor, repo Name, s Stored) (Stored, error)

	// CacheUsage tells how much of each pool is cached content, the default pool
	// first.
	CacheUsage(ctx context.Context, a Actor) ([]CacheUsage, error)

	// CachedManifests lists the cached manifests of repo, ordered by digest.
	// Page.After is a digest. It is [ErrNameUnknown] if there is no such repository.
	CachedManifests(ctx context.Context, a Actor, repo Name, p Page[Digest]) (List[CachedManifest], error)

	// PushedTo reports whether somebody has pushed a manifest into repo that is
	// still there. No repository of that name: nobody has.
	PushedTo(ctx context.Context, a Actor, repo Name) (bool, error)

	// EvictCached removes cached content of repo now, also if it is pinned: the
	// manifest a tag points to or of that digest with its tags, or a blob; all of the
	// repository if r is the zero value, for some seconds at most: call it again
	// while [Eviction.More] is set. There is no way back but to fetch it again.
	// [ErrManifestUnknown] if there is no such content, [ErrInUse] if it is not
	// cached or something needs it that was pushed, [ErrDenied] if one of its tags is
	// immutable.
	EvictCached(ctx context.Context, a Actor, repo Name, r Reference) (Eviction, error)

	// UntagCached is [Manifests.DeleteTag] for a tag whose upstream has it no more: it
	// removes t if it points to d, and can be undone like that. [ErrManifestUnknown] if
	// there is no such tag, [ErrPreconditionFailed] if it points elsewhere, [ErrInUse] if
	// somebody has pushed d, [ErrDenied] if the tag is immutable.
	UntagCached(ctx context.Context, a Actor, repo Name, t Tag, d Digest) error

	// Pins lists what stays however large the cache is, ordered by pattern; that of
	// the config file first.
	Pins(ctx context.Context, a Actor) ([]Pin, error)

	// SetPin adds a pin, or gives another reason for it. [ErrParameterInvalid] if the
	// pattern is none; [ErrTooLarge] if there are [MaxPins].
	SetPin(ctx context.Context, a Actor, p Pin) error

	// ClearPin takes a pin back; no error if it was not set.
	ClearPin(ctx context.Context, a Actor, pattern string) error
}

// Origin says where cached content is from.
type Origin struct {
	// Upstream it was fetched from, for people: at most [MaxUpstream] bytes.
	Upstream string
	// Cost is how much longer than other content it stays, for what it costs to
	// fetch it again: microseconds that are added to the time of its last pull. At
	// least 0, at most [MaxCost].
	Cost int64
}

// Bounds of an [Origin].
const (
	MaxUpstream = 500
	MaxCost     = 366 * 24 * 3600 * 1_000_000
)

// Validate returns [ErrParameterInvalid] unless o is within its bounds.
func (o Origin) Validate() error {
	if len(o.Upstream) > MaxUpstream || o.Cost < 0 || o.Cost > MaxCost {
		return ErrParameterInvalid.With("an upstream has at most %d bytes, and content costs at most a year", MaxUpstream)
	}
	return nil
}

// CacheUsage is how much of a pool is cached content.
type CacheUsage struct {
	Pool Pool
	// Bytes of blobs that only cached manifests need; what will go because it was
	// evicted is not counted.
	Bytes     int64
	Manifests int64 // cached manifests
	// Limit is how many bytes there may be, 0 if nothing limits them.
	Limit int64
	// Evicted is how many manifests this process evicted since it started, and
	// EvictedBytes how many bytes nothing needed then.
	Evicted, EvictedBytes int64
}

// CachedManifest is a manifest that was fetched from an upstream.
type CachedManifest struct {
	Digest Digest
	Tags   []Tag // that point to it
	Size   int64 // bytes of the manifest and of the blobs that are here
	Origin
	Fetched int64  // when, microseconds since 1970
	Used    int64  // when it was last pulled or fetched
	Pinned  string // the pattern that keeps it, "" if none does
}

// Eviction is what one call of [Cache.EvictCached] did.
type Eviction struct {
	Manifests, Blobs int64 // removed from the repository
	Bytes            int64 // that nothing needs now
	More             bool  // there is more to evict
}

// Pin keeps cached content.
type Pin struct {
	// Pattern is a pattern of repositories (package glob), alone, with ":" and a
	// pattern of tags behind it, or with "@" and a digest. An image that is pinned by
	// a tag keeps what its index lists and what refers to it.
	Pattern string
	Reason  string // for people, at most [MaxReason] bytes
	Actor   string // who said so, "" if anonymous or the config file
	Since   int64  // microseconds since 1970; 0 for the config file
}

// MaxPins is how many pins [Cache.SetPin] takes.
const MaxPins = 1000
