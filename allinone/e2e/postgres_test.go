//go:build e2e

package e2e

import (
	mrand "math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
)

// TestG11PostgresRestarts stops the PostgreSQL server of a catalog at random
// points while clients push, push in chunks, move tags and delete: by turns as an
// administrator does (SIGINT), without a checkpoint (SIGQUIT), and as a crash
// (SIGKILL). Clients get 503 and nothing else; when the server is back the same
// processes serve again and show what they had acknowledged. Then they are
// stopped, and `berth fsck` must find nothing.
//
// PG_RESTARTS is the number of restarts (20), KILL_SEED the seed. The run is
// void, and fails, if fewer than a fifth of the restarts hit an open operation of
// each kind.
func TestG11PostgresRestarts(t *testing.T) {
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) {
			restarts := envInt(t, "PG_RESTARTS", 20)
			if topology == Split {
				restarts = (restarts + 4) / 5
			}
			restartLoop(t, topology, restarts)
		})
	}
}

// outage is how long the server is away.
const outage = time.Second

func restartLoop(t *testing.T, topology Topology, restarts int) {
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%s: %d restarts of PostgreSQL, KILL_SEED=%d", topology, restarts, seed)
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	s := Start(t, Options{Topology: topology, Postgres: server, Edit: func(c map[string]any) {
		c["log"] = map[string]any{"level": "error"} // each failed request is a line
	}})
	model := newKillModel()
	clients := killClients(s, model, seed)
	ways := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}
	var (
		back    time.Time
		slowest time.Duration
		refused int
	)
	for n := range restarts {
		errs := underLoad(t, rnd, model, clients, func() {
			if err := server.Stop(ways[n%len(ways)]); err != nil {
				t.Fatal(err)
			}
			// Clients meet 503, but for those whose commit was cut off: they hear what
			// became of it once the server is back.
			<-time.After(outage)
			model.enough.Store(true)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			back = time.Now()
		})
		model.enough.Store(false)
		for _, err := range errs {
			if err != nil && !strings.Contains(err.Error(), ": 503 ") {
				t.Errorf("restart %d: a client ended with %v, want 503", n+1, err)
			} else if err != nil {
				refused++
			}
		}
		for _, p := range s.Processes {
			if p.ready != "" {
				p.waitReady(t)
			}
		}
		slowest = max(slowest, time.Since(back))
		checkAfterRestart(t, model, clients, n == restarts-1)
		for i := len(s.Processes) - 1; i >= 0; i-- {
			if err := s.Processes[i].Stop(); err != nil {
				t.Error(err)
			}
		}
		checkStore(t, s, n)
		for _, p := range s.Processes {
			p.Restart(t)
		}
	}
	t.Logf("%d of %d clients met 503; ready again at most %v after PostgreSQL", refused, restarts*len(clients), slowest.Round(time.Millisecond))
	if refused == 0 {
		t.Error("void: no client met the outage")
	}
	report(t, model, restarts)
}

// checkAfterRestart compares what the registry shows with what it acknowledged.
func checkAfterRestart(t *testing.T, model *killModel, clients []*killClient, all bool) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	if all {
		model.touchAll()
	}
	bad := model.check(client)
	for _, c := range clients {
		c.http = client
		if err := c.resume(); err != nil {
			bad = append(bad, err.Error())
		}
	}
	if len(bad) > 0 {
		t.Fatalf("after a restart of PostgreSQL:\n%s", strings.Join(bad, "\n"))
	}
}
