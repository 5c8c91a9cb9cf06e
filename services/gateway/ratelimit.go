package gateway

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// Rates limit what one client may ask for; see clientOf. The zero value limits
// nothing.
type Rates struct {
	// All is how many requests per second a client may make, and Methods how many by
	// HTTP method; both hold. 0 is no limit. A client that was silent for a second
	// may make as many at once.
	All     int
	Methods map[string]int
	// Concurrent is how many requests of a client may be in progress. 0: no limit.
	Concurrent int
}

// ratesOf returns what a config file says.
func ratesOf(h config.HTTP) Rates {
	if h.Ratelimit == nil {
		return Rates{}
	}
	r := Rates{All: h.Ratelimit.Rate, Concurrent: h.Ratelimit.Concurrent, Methods: map[string]int{}}
	for _, m := range h.Ratelimit.Methods {
		method := strings.ToUpper(m.Method) // clients write it so
		if rate, twice := r.Methods[method]; !twice || rate <= 0 || m.Rate > 0 && m.Rate < rate {
			r.Methods[method] = m.Rate
		}
	}
	return r
}

// SetRates has limits hold from now on.
func (g *Gateway) SetRates(r Rates) {
	g.rates.limits.Store(&r)
	g.active.limit(r.Concurrent)
}

// maxBuckets bounds the clients that are remembered; each takes some 100 bytes.
const maxBuckets = 64 << 10

// rates counts the requests of clients. A bucket is one moment: until when what was
// asked for so far is paid (GCRA, ITU-T I.371). One in the past is as good as none.
type rates struct {
	limits atomic.Pointer[Rates]
	now    func() time.Time

	mu      sync.Mutex
	buckets map[bucketKey]time.Time
}

// bucketKey is a client, and the method that has a limit of its own, "" for all.
type bucketKey struct{ client, method string }

// take counts a request. If it is one too many it is not counted, and after says
// when the next may be made.
func (l *rates) take(client, method string) (after time.Duration, err error) {
	r := l.limits.Load()
	if r == nil || client == "" {
		return 0, nil
	}
	own := r.Methods[method]
	if r.All <= 0 && own <= 0 {
		return 0, nil
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	all, wait := l.next(bucketKey{client, ""}, r.All, now)
	only, wait2 := l.next(bucketKey{client, method}, own, now)
	if wait = max(wait, wait2); wait > 0 {
		return wait, registry.ErrTooManyRequests.With("this client makes too many requests per second (http.ratelimit)")
	}
	l.pay(bucketKey{client, ""}, all, now)
	l.pay(bucketKey{client, method}, only, now)
	return 0, nil
}

// next returns what a bucket will be after one more request, and how long that must
// wait.
func (l *rates) next(k bucketKey, rate int, now time.Time) (paid time.Time, wait time.Duration) {
	if rate <= 0 {
		return time.Time{}, 0
	}
	paid = l.buckets[k]
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(time.Second / time.Duration(rate))
	// As many as come in a second may come at once, and one always may.
	return paid, max(paid.Sub(now)-max(time.Second, time.Second/time.Duration(rate)), 0)
}

func (l *rates) pay(k bucketKey, paid, now time.Time) {
	if paid.IsZero() {
		return
	}
	if l.buckets == nil {
		l.buckets = make(map[bucketKey]time.Time)
	}
	if _, ok := l.buckets[k]; !ok && len(l.buckets) >= maxBuckets {
		l.forget(now)
	}
	l.buckets[k] = paid
}

// forget makes room: of some buckets, which a map hands out in any order, it drops
// those that are paid, or the one that is paid soonest.
func (l *rates) forget(now time.Time) {
	var soonest bucketKey
	first, looked, dropped := time.Time{}, 0, 0
	for k, paid := range l.buckets {
		if !paid.After(now) {
			delete(l.buckets, k)
			dropped++
		} else if first.IsZero() || paid.Before(first) {
			soonest, first = k, paid
		}
		if looked++; looked >= 64+rand.IntN(64) {
			break
		}
	}
	if dropped == 0 {
		delete(l.buckets, soonest)
	}
}

// limited counts a request for its client, and refuses it if it is one too many.
func (g *Gateway) limited(x *exchange, a registry.Actor) error {
	if r := g.rates.limits.Load(); r.All <= 0 && len(r.Methods) == 0 {
		return nil
	}
	after, err := g.rates.take(clientOf(a, x.r.RemoteAddr), x.r.Method)
	if err != nil {
		x.set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
		g.meters.limited.Inc()
	}
	return err
}
