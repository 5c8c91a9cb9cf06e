package metadata

import (
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Sizes of the caches of rows, in bytes.
const (
	tagCacheSize      = 4 << 20
	manifestCacheSize = 12 << 20
	blobCacheSize     = 2 << 20
)

// rows are the caches of rows. Without them every read is a query.
type rows struct {
	on        bool
	clock     func() time.Time
	commits   *commits
	tags      *rowCache[registry.Digest]
	manifests *rowCache[kept[registry.Manifest]] // Bytes nil: not known
	blobs     *rowCache[kept[registry.Blob]]     // linked blobs only
}

// kept is content that is promised to whoever hears of it.
type kept[V any] struct {
	value V
	until int64 // from then on it has to be promised anew; 0: never
}

// newRows returns the caches of a database. One that other processes change, too,
// has none, unless a row may be stale for a while.
func newRows(shared bool, stale time.Duration, now func() time.Time) rows {
	if !shared {
		stale = 0 // never stale, however long it is kept
	}
	c := new(commits)
	return rows{
		on:        !shared || stale > 0,
		clock:     now,
		commits:   c,
		tags:      newRowCache[registry.Digest](c, tagCacheSize, stale, now),
		manifests: newRowCache[kept[registry.Manifest]](c, manifestCacheSize, stale, now),
		blobs:     newRowCache[kept[registry.Blob]](c, blobCacheSize, stale, now),
	}
}

// now returns what a read that begins now hands to the fill functions.
func (r *rows) now() moment {
	m := moment{commits: r.commits.n.Load()}
	if r.tags.fresh > 0 {
		m.time = r.clock()
	}
	return m
}

// blob returns a linked blob if the cache has it.
func (r *rows) blob(repo registry.Name, d registry.Digest) (registry.Blob, bool) {
	b, ok := r.blobs.get(rowKey{repo, string(d)})
	return b.value, ok && r.good(b.until)
}

// good reports whether a row that is promised until then may be told of.
func (r *rows) good(until int64) bool { return until == 0 || r.clock().UnixMicro() <= until }

// manifest returns the answer to q if the caches have it.
func (r *rows) manifest(repo registry.Name, q registry.ManifestQuery) (registry.Manifest, bool) {
	d := q.Ref.Digest
	if d == "" {
		var ok bool
		if d, ok = r.tags.get(rowKey{repo, string(q.Ref.Tag)}); !ok {
			return registry.Manifest{}, false
		}
	}
	row, ok := r.manifests.get(rowKey{repo, string(d)})
	if !ok || !r.good(row.until) {
		return registry.Manifest{}, false
	}
	m := row.value
	if q.NoBytes || q.Have == d {
		m.Bytes = nil
	} else if m.Bytes == nil {
		return registry.Manifest{}, false
	}
	return m, true
}

// fillManifest keeps the answer to q, which has to be promised anew from then on.
func (r *rows) fillManifest(repo registry.Name, q registry.ManifestQuery, m registry.Manifest, until int64, at moment) {
	if !r.on {
		return
	}
	repo = registry.Name(strings.Clone(string(repo))) // not the request it is a part of
	if q.Ref.Tag != "" {
		r.tags.fill(rowKey{repo, strings.Clone(string(q.Ref.Tag))}, m.Digest, len(m.Digest), at)
	}
	if len(m.Bytes) > maxCost(manifestCacheSize) {
		m.Bytes = nil
	}
	r.manifests.fill(rowKey{repo, string(m.Digest)}, kept[registry.Manifest]{m, until}, len(m.Bytes)+len(m.MediaType), at)
}

// fillBlob keeps a linked blob, which has to be promised anew from then on.
func (r *rows) fillBlob(repo registry.Name, b registry.Blob, until int64, at moment) {
	if !r.on {
		return
	}
	k := rowKey{registry.Name(strings.Clone(string(repo))), string(b.Digest)}
	r.blobs.fill(k, kept[registry.Blob]{b, until}, len(b.Locator)+len(b.Pool), at)
}

// change collects the rows that an operation changes.
type change struct {
	rows            *rows
	tags, manifests []rowKey
	blobs           []rowKey
	all             bool // every row of a repository, whichever those are
}

// attach keeps the changed rows out of the caches while tx commits. It is called
// when the operation knows all of them.
func (c *change) attach(tx *sqldb.Tx) {
	if !c.rows.on || !c.all && len(c.tags)+len(c.manifests)+len(c.blobs) == 0 {
		return
	}
	tx.Bracket(c.begin, c.end)
}

func (c *change) begin() {
	if c.all {
		c.rows.tags.beginAll()
		c.rows.manifests.beginAll()
		c.rows.blobs.beginAll()
	}
	for _, k := range c.tags {
		c.rows.tags.begin(k)
	}
	for _, k := range c.manifests {
		c.rows.manifests.begin(k)
	}
	for _, k := range c.blobs {
		c.rows.blobs.begin(k)
	}
}

func (c *change) end() {
	n := c.rows.commits.n.Add(1)
	if c.all {
		c.rows.tags.endAll(n)
		c.rows.manifests.endAll(n)
		c.rows.blobs.endAll(n)
	}
	for _, k := range c.tags {
		c.rows.tags.end(k, n)
	}
	for _, k := range c.manifests {
		c.rows.manifests.end(k, n)
	}
	for _, k := range c.blobs {
		c.rows.blobs.end(k, n)
	}
}
