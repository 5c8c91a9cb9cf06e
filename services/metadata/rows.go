package metadata

import (
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Sizes of the caches of rows, in bytes.
const (
	tagCacheSize      = 4 << 20
	manifestCacheSize = 12 << 20
	blobCacheSize     = 2 << 20
)

// rows are the caches of rows.
type rows struct {
	commits   *commits
	tags      *rowCache[registry.Digest]
	manifests *rowCache[registry.Manifest] // Bytes nil: not known
	blobs     *rowCache[registry.Blob]     // linked blobs only
}

func newRows() rows {
	c := new(commits)
	return rows{
		commits:   c,
		tags:      newRowCache[registry.Digest](c, tagCacheSize),
		manifests: newRowCache[registry.Manifest](c, manifestCacheSize),
		blobs:     newRowCache[registry.Blob](c, blobCacheSize),
	}
}

// now returns what a read that begins now hands to the fill functions.
func (r *rows) now() uint64 { return r.commits.n.Load() }

// manifest returns the answer to q if the caches have it.
func (r *rows) manifest(repo registry.Name, q registry.ManifestQuery) (registry.Manifest, bool) {
	d := q.Ref.Digest
	if d == "" {
		var ok bool
		if d, ok = r.tags.get(rowKey{repo, string(q.Ref.Tag)}); !ok {
			return registry.Manifest{}, false
		}
	}
	m, ok := r.manifests.get(rowKey{repo, string(d)})
	if !ok {
		return registry.Manifest{}, false
	}
	if q.NoBytes || q.Have == d {
		m.Bytes = nil
	} else if m.Bytes == nil {
		return registry.Manifest{}, false
	}
	return m, true
}

// fillManifest keeps the answer to q.
func (r *rows) fillManifest(repo registry.Name, q registry.ManifestQuery, m registry.Manifest, at uint64) {
	repo = registry.Name(strings.Clone(string(repo))) // not the request it is a part of
	if q.Ref.Tag != "" {
		r.tags.fill(rowKey{repo, strings.Clone(string(q.Ref.Tag))}, m.Digest, len(m.Digest), at)
	}
	if len(m.Bytes) > maxCost(manifestCacheSize) {
		m.Bytes = nil
	}
	r.manifests.fill(rowKey{repo, string(m.Digest)}, m, len(m.Bytes)+len(m.MediaType), at)
}

// fillBlob keeps a linked blob.
func (r *rows) fillBlob(repo registry.Name, b registry.Blob, at uint64) {
	k := rowKey{registry.Name(strings.Clone(string(repo))), string(b.Digest)}
	r.blobs.fill(k, b, len(b.Locator)+len(b.Pool), at)
}

// change collects the rows that an operation changes.
type change struct {
	rows            *rows
	tags, manifests []rowKey
	blobs           []rowKey
}

// attach keeps the changed rows out of the caches while tx commits. It is called
// when the operation knows all of them.
func (c *change) attach(tx *sqldb.Tx) {
	if len(c.tags)+len(c.manifests)+len(c.blobs) == 0 {
		return
	}
	tx.Bracket(c.begin, c.end)
}

func (c *change) begin() {
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
