package jwt

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified bounds how many verified tokens are remembered; half are the oldest.
const maxVerified = 8 << 10

// verified remembers tokens by their hash, so that a pull of many layers costs one
// check of a signature. A token is forgotten when it expires, or when the keys change.
type verified[V any] struct {
	mu         sync.Mutex // guards all below
	generation int
	young, old map[[sha256.Size]byte]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func (c *verified[V]) get(token string, generation int, now time.Time) (v V, ok bool) {
	key := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return v, false
	}
	r, ok := c.young[key]
	if !ok {
		if r, ok = c.old[key]; ok {
			c.keep(key, r)
		}
	}
	return r.value, ok && now.Before(r.until)
}

func (c *verified[V]) put(token string, generation int, v V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		c.generation, c.young, c.old = generation, nil, nil
	}
	c.keep(sha256.Sum256([]byte(token)), remembered[V]{v, until})
}

func (c *verified[V]) keep(key [sha256.Size]byte, r remembered[V]) {
	if len(c.young) >= maxVerified/2 {
		c.young, c.old = nil, c.young
	}
	if c.young == nil {
		c.young = make(map[[sha256.Size]byte]remembered[V])
	}
	c.young[key] = r
}
