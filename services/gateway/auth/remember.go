package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// remembered is how many answers of each kind, yes and no, a [Remember] holds at
// most; half of them are the oldest.
const remembered = 16 << 10

// Remember keeps what slow checks of passwords have found out, in memory. Its keys
// are MACs under a key that only this process has and that it never tells, so that
// nobody can make two pairs of name and password that share one (compare
// CVE-2022-46146), and a dump of the memory is not a list of fast hashes.
//
// Yes and no are kept apart: who tries many wrong passwords pushes out no right
// ones. It may be used by many goroutines.
type Remember struct {
	method  string
	yes, no time.Duration // how long each is good; 0: not kept
	now     func() time.Time
	secret  [sha256.Size]byte

	mu      sync.Mutex // guards all below
	known   [2]generations
	running map[mac]*check
}

type mac [sha256.Size]byte

// check is one that runs. Whoever wants to know the same waits for it.
type check struct {
	done chan struct{}
	answer
	err error
}

// answer is what was found out: an actor, or, without an ID, that there is none.
type answer struct {
	actor registry.Actor
	until time.Time
}

// generations are two maps of limited size. What is used moves to the young one;
// when that is full the old one is dropped.
type generations struct{ young, old map[mac]answer }

// NewRemember returns a cache for a method of authentication that keeps a yes and
// a no for these times.
func NewRemember(method string, yes, no time.Duration) *Remember {
	r := &Remember{method: method, yes: yes, no: no, now: time.Now, running: make(map[mac]*check)}
	_, _ = rand.Read(r.secret[:]) // never fails
	return r
}

// Ask returns who user and password belong to, an actor without ID if nobody. It
// calls find unless the answer is known or on its way. generation is the state of
// what find looks at, such as a file: an answer from another one is never given.
// An error of find is not kept. find runs on a context of its own: that the first
// who asked has gone does not concern the others.
func (r *Remember) Ask(ctx context.Context, user, password, generation string, find func(context.Context) (registry.Actor, error)) (registry.Actor, error) {
	key := r.key(user, password, generation)
	r.mu.Lock()
	if a, ok := r.get(key); ok {
		r.mu.Unlock()
		return a.actor, nil
	}
	c := r.running[key]
	if c == nil {
		c = &check{done: make(chan struct{})}
		r.running[key] = c
		go r.run(context.WithoutCancel(ctx), key, c, find)
	}
	r.mu.Unlock()
	select {
	case <-c.done:
		return c.actor, c.err
	case <-ctx.Done():
		return registry.Actor{}, ctx.Err()
	}
}

func (r *Remember) run(ctx context.Context, key mac, c *check, find func(context.Context) (registry.Actor, error)) {
	c.err = errors.New("the check of a password has panicked")
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, key)
		if c.err == nil {
			r.put(key, c.actor)
		}
		close(c.done)
	}()
	c.actor, c.err = find(ctx)
}

// Known reports whether the answer for user and password is known to be yes.
func (r *Remember) Known(user, password, generation string) bool {
	key := r.key(user, password, generation)
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.get(key)
	return ok && a.actor.ID != ""
}

// key is a MAC over all that an answer depends on, each with its length before it.
func (r *Remember) key(user, password, generation string) mac {
	h := hmac.New(sha256.New, r.secret[:])
	var length [8]byte
	for _, s := range []string{r.method, generation, user, password} {
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	return mac(h.Sum(nil))
}

func (r *Remember) get(key mac) (answer, bool) {
	for i := range r.known {
		g := &r.known[i]
		a, ok := g.young[key]
		if !ok {
			if a, ok = g.old[key]; ok {
				g.keep(key, a)
			}
		}
		if ok && r.now().Before(a.until) {
			return a, true
		}
	}
	return answer{}, false
}

func (r *Remember) put(key mac, a registry.Actor) {
	which, keep := 0, r.yes
	if a.ID == "" {
		which, keep = 1, r.no
	}
	if keep > 0 {
		r.known[which].keep(key, answer{a, r.now().Add(keep)})
	}
}

func (g *generations) keep(key mac, a answer) {
	if len(g.young) >= remembered/2 {
		g.young, g.old = nil, g.young
	}
	if g.young == nil {
		g.young = make(map[mac]answer)
	}
	g.young[key] = a
}

// RandomName returns a name that nobody has.
func RandomName() string { return rand.Text() }
