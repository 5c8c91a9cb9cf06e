package gateway

import (
	"container/list"
	"strings"
	"sync"

	"github.com/berth-registry/berth/registry"
)

// manifestCache keeps bytes of manifests, which never change, by digest. It also
// remembers what a tag last resolved to: not to answer with it, but to tell the
// Catalog which bytes we have ([registry.ManifestQuery.Have]).
type manifestCache struct {
	mu    sync.Mutex // guards all below
	limit int64      // bytes
	size  int64
	byAge *list.List // of *cached, the latest used first
	items map[registry.Digest]*list.Element
	hints map[hint]registry.Digest
}

type cached struct {
	digest registry.Digest
	bytes  []byte
}

type hint struct {
	repo registry.Name
	tag  registry.Tag
}

const (
	maxHints      = 16384 // some 150 bytes each
	entryOverhead = 256   // what an entry costs beyond its bytes, about
)

func (c *manifestCache) init(limit int64) {
	c.limit = limit
	c.byAge = list.New()
	c.items = make(map[registry.Digest]*list.Element)
	c.hints = make(map[hint]registry.Digest)
}

// bytes returns how much memory the cache takes.
func (c *manifestCache) bytes() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.size)
}

// guess returns the digest and bytes that ref will probably resolve to, or none.
func (c *manifestCache) guess(repo registry.Name, ref registry.Reference) (registry.Digest, []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := ref.Digest
	if d == "" {
		d = c.hints[hint{repo, ref.Tag}]
	}
	e, ok := c.items[d]
	if !ok {
		return "", nil
	}
	c.byAge.MoveToFront(e)
	return d, e.Value.(*cached).bytes
}

// add keeps m's bytes, which the caller won't change, and what ref resolved to.
func (c *manifestCache) add(repo registry.Name, ref registry.Reference, m registry.Manifest) {
	cost := int64(len(m.Bytes)) + entryOverhead
	if cost > c.limit/4 {
		return // one giant must not throw out everything else
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref.Tag != "" {
		if len(c.hints) >= maxHints {
			for h := range c.hints {
				delete(c.hints, h) // any one: a lost hint costs little
				break
			}
		}
		// Clones: the originals are parts of a whole request target.
		h := hint{registry.Name(strings.Clone(string(repo))), registry.Tag(strings.Clone(string(ref.Tag)))}
		c.hints[h] = m.Digest
	}
	if e, ok := c.items[m.Digest]; ok {
		c.byAge.MoveToFront(e)
		return
	}
	c.items[m.Digest] = c.byAge.PushFront(&cached{m.Digest, m.Bytes})
	for c.size += cost; c.size > c.limit; {
		e := c.byAge.Back()
		old := c.byAge.Remove(e).(*cached)
		delete(c.items, old.digest)
		c.size -= int64(len(old.bytes)) + entryOverhead
	}
}
