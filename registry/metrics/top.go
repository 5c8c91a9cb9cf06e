package metrics

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Top keeps values by names that outsiders choose, for a bounded number of them.
// A name that finds no room shares one value with all others of its kind, called
// [Other]. It gets a place of its own when one has not been used for a while; the
// name that gives it up begins at zero again should it come back, as after a
// restart. So each series by itself only grows, and the sum of all rates is right.
// Methods may be called by many goroutines.
type Top[V any] struct {
	room  int
	idle  time.Duration
	now   func() time.Time
	other V

	mu     sync.RWMutex // guards names
	names  map[string]*topEntry[V]
	looked time.Time // when there was no place to give up
}

type topEntry[V any] struct {
	value V
	used  atomic.Int64 // Unix seconds
}

// Other is the name of what has no place of its own. No repository is called so.
const Other = "_other"

// TopIdle is how long a name keeps a place it does not use while others want it.
const TopIdle = 10 * time.Minute

// NewTop returns a Top for at most room names. now tells the time; nil means
// time.Now.
func NewTop[V any](room int, now func() time.Time) *Top[V] {
	if now == nil {
		now = time.Now
	}
	return &Top[V]{room: room, idle: TopIdle, now: now, names: make(map[string]*topEntry[V])}
}

// Get returns the value of name, for use at once. If the name has no place and
// none is free, or it is not to get one, that is the value of [Other].
func (t *Top[V]) Get(name string, admit bool) *V {
	now := t.now()
	t.mu.RLock()
	e := t.names[name]
	t.mu.RUnlock()
	if e == nil && admit {
		e = t.admit(name, now)
	}
	if e == nil {
		return &t.other
	}
	e.used.Store(now.Unix())
	return &e.value
}

// admit finds a place for name. nil means that there is none.
func (t *Top[V]) admit(name string, now time.Time) *topEntry[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.names[name]; e != nil {
		return e
	}
	if len(t.names) >= t.room {
		if now.Sub(t.looked) < time.Second && !now.Before(t.looked) {
			return nil
		}
		idlest := t.idlest()
		if now.Unix()-t.names[idlest].used.Load() < int64(t.idle/time.Second) {
			t.looked = now
			return nil
		}
		delete(t.names, idlest)
	}
	e := new(topEntry[V])
	e.used.Store(now.Unix())
	t.names[strings.Clone(name)] = e // not the request it is a part of
	return e
}

// idlest returns the name that was used the longest ago.
func (t *Top[V]) idlest() (name string) {
	least := int64(0)
	for n, e := range t.names {
		if used := e.used.Load(); name == "" || used < least {
			name, least = n, used
		}
	}
	return name
}

// Each calls f for each name and its value, and for [Other].
func (t *Top[V]) Each(f func(name string, v *V)) {
	t.mu.RLock()
	names := maps.Clone(t.names)
	t.mu.RUnlock()
	for n, e := range names {
		f(n, &e.value)
	}
	f(Other, &t.other)
}
