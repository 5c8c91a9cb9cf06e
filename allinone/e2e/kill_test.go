//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestG1Killed kills the registry with SIGKILL at random points while clients push,
// push in chunks, move tags and delete. After each kill `berth fsck` must find
// nothing, and after each restart the registry must show what it had
// acknowledged (invariants I1 to I4, I6, I8, I9, I12).
//
// KILLS is the number of kills (300), KILL_SEED the seed of the kill times and
// sizes. The run is void, and fails, if fewer than a fifth of the kills hit an
// open operation of each kind.
func TestG1Killed(t *testing.T) {
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) {
			kills := envInt(t, "KILLS", 300)
			if topology == Split {
				kills = (kills + 4) / 5
			}
			killLoop(t, topology, kills)
		})
	}
}

func killLoop(t *testing.T, topology Topology, kills int) {
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%s: %d kills, KILL_SEED=%d", topology, kills, seed)
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	short := os.Getenv("KILL_SHORT") != ""
	s := Start(t, Options{Topology: topology, Edit: func(c map[string]any) {
		c["log"] = map[string]any{"level": "warn"}
		if short {
			shortest(c)
		}
	}})
	model := newKillModel()
	model.collects = short
	clients := killClients(s, model, seed)
	collected := 0
	for n := range kills {
		if short && topology == Linked {
			collected += collectedUntilNow(t, s)
		}
		killOnce(t, s, rnd, model, clients)
		checkStore(t, s, n)
		for _, p := range s.Processes {
			p.Restart(t)
		}
		transport := &http.Transport{}
		client := &http.Client{Transport: transport}
		if n == kills-1 {
			model.touchAll()
		}
		bad := model.check(client)
		for _, c := range clients {
			c.http = client
			if err := c.resume(); err != nil {
				bad = append(bad, err.Error())
			}
		}
		transport.CloseIdleConnections()
		if len(bad) > 0 {
			t.Fatalf("after kill %d (KILL_SEED=%d):\n%s", n+1, seed, bad)
		}
	}
	report(t, model, kills)
	if short && topology == Linked {
		t.Logf("garbage collection had removed %d things when its process was killed", collected)
		if collected < kills {
			t.Error("void: garbage collection had little to do")
		}
	}
}

// shortest lets everything be collected and scrubbed as soon as the program allows:
// KILL_SHORT says that its times are those of short-times.patch.
func shortest(c map[string]any) {
	storage := c["storage"].(map[string]any)
	storage["gcDelay"], storage["gcInterval"], storage["undoWindow"] = "1s", "1s", "1s"
	c["extensions"] = map[string]any{
		"scrub":   map[string]any{"enable": true, "interval": "1s", "rate": 1000},
		"metrics": map[string]any{"enable": true, "prometheus": map[string]any{"path": "/metrics"}},
	}
}

// collectedUntilNow lets time pass after a start, in which garbage collection goes
// on from where the kill left it, and returns how many things it removed.
func collectedUntilNow(t *testing.T, s *System) (sum int) {
	t.Helper()
	<-time.After(500 * time.Millisecond)
	body, status, err := fetch(http.DefaultClient, s.URL()+"/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d, %v", status, err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "zot_gc_deleted_total{"); ok {
			_, value, _ := strings.Cut(strings.TrimSpace(rest), "} ")
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("metrics: %q: %v", line, err)
			}
			sum += int(n)
		}
	}
	return sum
}

// killClients returns three clients of each kind.
func killClients(s *System, model *killModel, seed uint64) []*killClient {
	var clients []*killClient
	for i, kind := range slices.Sorted(maps.Keys(killKinds)) {
		for j := range 3 {
			clients = append(clients, &killClient{
				kind:  kind,
				base:  fmt.Sprintf("%s/v2/kill/%c%d", s.URL(), 'a'+i, j),
				model: model,
				rnd:   mrand.New(mrand.NewPCG(seed, uint64(i*3+j+1))),
			})
		}
	}
	return clients
}

// killOnce kills all programs while the clients work, and waits for these to
// notice.
func killOnce(t *testing.T, s *System, rnd *mrand.Rand, model *killModel, clients []*killClient) {
	t.Helper()
	errs := underLoad(t, rnd, model, clients, func() {
		for i := len(s.Processes) - 1; i >= 0; i-- {
			s.Processes[i].Kill(t)
		}
	})
	for _, err := range errs {
		// Killed service by service, a gateway that outlives the others answers 503.
		if err != nil && len(s.Processes) == 1 {
			t.Error(err)
		}
	}
}

// underLoad lets the clients work until each kind of operation has begun and for
// a random time more, calls hit, and returns how the clients ended.
func underLoad(t *testing.T, rnd *mrand.Rand, model *killModel, clients []*killClient, hit func()) []error {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	defer transport.CloseIdleConnections()
	errs := make([]error, len(clients))
	var working sync.WaitGroup
	for i, c := range clients {
		c.http = &http.Client{Transport: transport, Timeout: 30 * time.Second}
		working.Go(func() { errs[i] = c.run() })
	}
	model.awaitLoad(t)
	<-time.After(time.Duration(rnd.Int64N(int64(100 * time.Millisecond))))
	model.killed()
	hit()
	working.Wait()
	return errs
}

// awaitLoad waits until an operation of each kind has begun since the last kill:
// the minimum load without which a kill says nothing.
func (m *killModel) awaitLoad(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !m.loaded() {
		if time.Now().After(deadline) {
			t.Fatal("void: some kind of operation did not begin within a minute")
		}
		<-time.After(time.Millisecond)
	}
}

// awaitOpen waits until an operation is open of the kind that was hit least; all have
// begun.
func (m *killModel) awaitOpen(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !m.leastHitIsOpen() {
		if time.Now().After(deadline) {
			t.Fatal("void: nothing of some kind was open within a minute")
		}
		<-time.After(100 * time.Microsecond)
	}
}

// checkStore runs the offline check on the stopped store.
func checkStore(t *testing.T, s *System, n int) {
	t.Helper()
	args := []string{"fsck", s.Config}
	if n%25 == 24 {
		args = []string{"fsck", "--read-data", s.Config}
	}
	out, err := exec.Command(Program(t, "berth"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck after kill %d: %v\n%s", n+1, err, out)
	}
}

func report(t *testing.T, model *killModel, kills int) {
	t.Logf("%-10s %9s %13s %14s", "operation", "started", "acknowledged", "kills inside")
	for _, kind := range model.kinds {
		s := model.stats[kind]
		t.Logf("%-10s %9d %13d %8d/%d", kind, s.started, s.acked, s.hit, kills)
		if s.hit*5 < kills {
			t.Errorf("void: only %d of %d kills hit an open %s", s.hit, kills, kind)
		}
	}
	t.Logf("%d kills: 0 acknowledged operations lost, 0 findings", kills)
}

func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
