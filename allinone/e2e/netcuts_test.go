//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// cutPairs are who speaks to whom.
var cutPairs = []string{"gateway→metadata", "gateway→blobstore", "metadata→blobstore", "metadata→postgres", "blobstore→s3"}

// TestG15Cuts damages the network between one pair of services after the other, in
// each of the ways of [NetFault], while clients push, pull, move tags and delete.
// Meanwhile every request ends within requestLimit, well or with 502, 503 or 504,
// and never with other bytes than asked for. When the network is mended, every
// kind of operation succeeds again within mendLimit though nothing was restarted,
// the registry shows what it had acknowledged, and `berth fsck` finds nothing.
//
// CUTS is the number of cuts (35: each pair with each fault), CUT_SECONDS how long
// each takes (10), CUT_SEED the seed of their order and of the sizes, and CUT_ONLY a
// part of the name of those to make: "gateway→blobstore", say, or "black hole". The
// run is void, and fails, if fewer than three fifths of the cuts met any traffic.
func TestG15Cuts(t *testing.T) {
	cuts := envInt(t, "CUTS", len(cutPairs)*len(netFaults))
	length := time.Duration(envInt(t, "CUT_SECONDS", 10)) * time.Second
	seed := uint64(envInt(t, "CUT_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d cuts of %v, CUT_SEED=%d", cuts, length, seed)
	cables := map[string]*Cable{}
	s := Start(t, Options{
		Topology: SplitTLS,
		Postgres: pgtest.Start(t, pgtest.Options{Durable: true}),
		S3:       s3test.Start(t),
		Through: func(from, to, address string) string {
			pair := from + "→" + to
			if !slices.Contains(cutPairs, pair) {
				return address
			}
			cables[pair] = NewCable(t, address)
			return cables[pair].Addr
		},
		Edit: func(c map[string]any) { c["log"] = map[string]any{"level": "error"} },
	})
	l := newCutLoop(t, s, seed)
	kinds := make([]cut, 0, len(cutPairs)*len(netFaults))
	for _, pair := range cutPairs {
		for _, f := range netFaults {
			if strings.Contains(pair+" "+string(f), os.Getenv("CUT_ONLY")) {
				kinds = append(kinds, cut{pair, f})
			}
		}
	}
	l.rnd.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for n := range cuts {
		k := kinds[n%len(kinds)]
		l.cut(t, n, k, cables[k.pair], length)
	}
	l.report(t, cuts)
}

const (
	// requestLimit is how long a request may take at most: the longest deadline of
	// a call between services, and one second.
	requestLimit = 61 * time.Second
	// mendLimit is how long after the end of a fault operations may fail.
	mendLimit = 10 * time.Second
)

// cut is a fault between a pair.
type cut struct {
	pair  string
	fault NetFault
}

// cutLoop is the state of the test.
type cutLoop struct {
	system  *System
	seed    uint64
	rnd     *mrand.Rand
	model   *killModel
	clients []*cutClient

	met     int           // cuts that met traffic
	slowest time.Duration // recovery
	longest time.Duration // operation during a cut
	failed  map[string]int
}

// cutClient does one kind of operation. Its requests have a time limit.
type cutClient struct {
	replicaClient
	tag  string // a manifest that never changes, and its digest
	want string

	longest time.Duration
}

// cutKinds are the operations of replicaKinds and one that reads names.
var cutKinds = func() map[string]func(*cutClient) error {
	all := map[string]func(*cutClient) error{"read": (*cutClient).read}
	for kind, f := range replicaKinds {
		all[kind] = func(c *cutClient) error { return f(&c.replicaClient) }
	}
	return all
}()

func newCutLoop(t *testing.T, s *System, seed uint64) *cutLoop {
	t.Helper()
	kinds := slices.Sorted(maps.Keys(cutKinds))
	l := &cutLoop{system: s, seed: seed, rnd: mrand.New(mrand.NewPCG(seed, 0)), model: newKillModel(kinds...), failed: map[string]int{}}
	for i, kind := range kinds {
		c := &cutClient{replicaClient: replicaClient{pulls: new(pulls), trouble: map[string]int{}, rand: mrand.NewChaCha8([32]byte{byte(i), byte(seed), byte(seed >> 8), byte(seed >> 16)})}}
		c.killClient = killClient{
			kind:  kind,
			base:  fmt.Sprintf("%s/v2/cut/%c", s.URL(), 'a'+i),
			model: l.model,
			rnd:   mrand.New(mrand.NewPCG(seed, uint64(i+1))),
			http:  &http.Client{Timeout: requestLimit, Transport: &http.Transport{}},
		}
		t.Cleanup(c.http.CloseIdleConnections)
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
		l.clients = append(l.clients, c)
	}
	return l
}

// prepare pushes what the client will read.
func (c *cutClient) prepare() error {
	switch c.kind {
	case "pull":
		data := c.bytes()
		c.big = c.base + "/blobs/" + digest.FromBytes(data).String()
		return c.blob(data)
	case "read":
		config := []byte(`{"read":true}`)
		manifest := imageOf(config, "read")
		c.tag, c.want = c.base+"/manifests/read", digest.FromBytes(manifest).String()
		return c.pushImage(c.tag, manifest, config)
	}
	return nil
}

// read gets a manifest, by its tag, with all it refers to.
func (c *cutClient) read() error {
	done := c.model.begin(c.kind, nil)
	body, status, err := fetch(c.http, c.tag)
	done(err == nil && status == http.StatusOK)
	switch {
	case err != nil:
		return err
	case status >= 500:
		return fmt.Errorf("%w: GET %s: %d %s", errServer, c.tag, status, body)
	case status != http.StatusOK || digest.FromBytes(body).String() != c.want:
		return fmt.Errorf("%w: GET %s: %d %s", errAnswer, c.tag, status, body)
	}
	return nil
}

// runUntil works until stop closes. It ends with an error for an answer that no
// fault of the network explains, and for none in time.
func (c *cutClient) runUntil(stop <-chan struct{}) error {
	for {
		c.round++
		began := time.Now()
		err := cutKinds[c.kind](c)
		c.longest = max(c.longest, time.Since(began))
		switch {
		case os.IsTimeout(errors.Unwrap(err)) || os.IsTimeout(err):
			return fmt.Errorf("no answer within %v: %w", requestLimit, err)
		case errors.Is(err, errServer) && !isOutage(err):
			return err
		case errors.Is(err, errAnswer) && !errors.Is(err, errServer):
			return err
		}
		pause := 20 * time.Millisecond
		if err != nil {
			c.trouble[cause(err)]++
			pause = 100 * time.Millisecond
		}
		select {
		case <-stop:
			return nil
		case <-time.After(pause):
		}
	}
}

// isOutage reports whether an answer says that somebody could not be reached.
func isOutage(err error) bool {
	c := cause(err)
	return slices.ContainsFunc([]string{" 502", " 503", " 504"}, func(s string) bool { return strings.HasSuffix(c, s) })
}

// cut makes one cut under load and checks everything.
func (l *cutLoop) cut(t *testing.T, n int, k cut, cable *Cable, length time.Duration) {
	t.Helper()
	where := fmt.Sprintf("cut %d, %s %s (CUT_SEED=%d)", n+1, k.pair, k.fault, l.seed)
	stop := make(chan struct{})
	errs := make([]error, len(l.clients))
	var working sync.WaitGroup
	for i, c := range l.clients {
		c.longest, c.trouble = 0, map[string]int{}
		working.Go(func() { errs[i] = c.runUntil(stop) })
	}
	l.model.awaitLoad(t)
	<-time.After(time.Duration(l.rnd.Int64N(int64(200 * time.Millisecond))))
	cable.Damage(k.fault)
	<-time.After(length)
	hits := cable.Mend(t)
	l.model.killed()
	began := time.Now()
	recovery := l.recover(t, where, began, mendLimit, "big push", "pull")
	l.recover(t, where, began, requestLimit) // 20 MiB take their time where others work, too
	close(stop)
	working.Wait()
	trouble, longest := map[string]int{}, time.Duration(0)
	for i, c := range l.clients {
		if errs[i] != nil {
			t.Errorf("%s: %s: %v", where, c.kind, errs[i])
		}
		longest = max(longest, c.longest)
		for what, n := range c.trouble {
			trouble[what] += n
			l.failed[what] += n
		}
	}
	t.Logf("cut %d: %s %s: met %d times, longest operation %v, recovery %v, clients met %v", n+1, k.pair, k.fault, hits, longest.Round(time.Millisecond), recovery.Round(time.Millisecond), trouble)
	if hits > 0 {
		l.met++
	}
	l.slowest, l.longest = max(l.slowest, recovery), max(l.longest, longest)
	l.check(t, n, where)
}

// recover waits until every kind of operation, but for some, has succeeded since
// the network was mended, for limit at most. It returns how long that took.
func (l *cutLoop) recover(t *testing.T, where string, began time.Time, limit time.Duration, but ...string) time.Duration {
	t.Helper()
	for {
		waiting := slices.DeleteFunc(l.model.waiting(), func(kind string) bool { return slices.Contains(but, kind) })
		took := time.Since(began)
		if len(waiting) == 0 {
			return took
		}
		if took > limit {
			t.Errorf("%s: no %s has succeeded within %v", where, strings.Join(waiting, ", "), limit)
			return took
		}
		<-time.After(5 * time.Millisecond)
	}
}

// check compares the registry and the store with what was acknowledged.
func (l *cutLoop) check(t *testing.T, n int, where string) {
	t.Helper()
	checkStore(t, l.system, n)
	client := &http.Client{Timeout: requestLimit}
	defer client.CloseIdleConnections()
	bad := l.model.check(client)
	for _, c := range l.clients {
		if err := c.resume(); err != nil {
			bad = append(bad, err.Error())
		}
	}
	if len(bad) > 0 {
		t.Errorf("%s:\n%s", where, strings.Join(bad, "\n"))
	}
	if t.Failed() {
		t.FailNow()
	}
}

func (l *cutLoop) report(t *testing.T, cuts int) {
	t.Helper()
	for _, kind := range l.model.kinds {
		s := l.model.stats[kind]
		t.Logf("%-10s started %5d, acknowledged %5d", kind, s.started, s.acked)
	}
	t.Logf("%d cuts, %d met traffic; what clients had to live with: %v; longest operation %v, slowest recovery %v; 0 acknowledged operations lost, 0 findings",
		cuts, l.met, l.failed, l.longest.Round(time.Millisecond), l.slowest.Round(time.Millisecond))
	// The metadata service calls the blobstore for copies that nobody needs, only.
	if l.met*5 < cuts*3 {
		t.Errorf("void: only %d of %d cuts met any traffic", l.met, cuts)
	}
}
