//go:build bench

package e2e

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
)

// requestsOnPostgres compares the CPU of gateway and metadata with the catalog on
// PostgreSQL with that of one process on SQLite. What the database itself takes
// is not counted.
func requestsOnPostgres(t *testing.T, b *bench) []figure {
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	stale := func(c map[string]any) {
		quiet(c)
		c["storage"].(map[string]any)["metadata"].(map[string]any)["maxStaleness"] = "1s"
	}
	systems := []*System{
		startBerth(t, Linked),
		Start(t, Options{Topology: Split, Edit: quiet, Postgres: server}),
		Start(t, Options{Topology: Split, Edit: stale, Postgres: server}),
	}
	layer, config, manifest := smallImage(0, 0)
	d := time.Second // for warming up
	var contenders []contender
	for _, s := range systems {
		if err := newBenchClient(s.URL(), "bench/small").image("v1", layer, config, manifest); err != nil {
			t.Fatal(err)
		}
		contenders = append(contenders, contender{procs: s.Processes, work: func(t testing.TB) float64 {
			return wrk(t, d, s.URL()+"/v2/bench/small/manifests/v1", "")
		}})
	}
	interleave(t, 1, contenders...)
	d = pick(b, 5*time.Second, 2*time.Second)
	got := interleave(t, 3, contenders...)
	line := func(row string, i int, goal bound) figure {
		return figure{row: row, berth: perRequest(got[i]), peer: "linked, SQLite " + perRequest(got[0]),
			value: ratio(got[i], got[0], sample.cost), format: "%.2f ×", goal: goal}
	}
	return []figure{
		line("manifest GET by tag, split, PostgreSQL: CPU", 1, atMost(4)),
		line("the same, maxStaleness 1 s: CPU", 2, atMost(2)),
	}
}
