//go:build bench

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// programSizes checks the built programs, which `make build` strips.
func programSizes(t *testing.T, _ *bench) []figure {
	size := func(name string) float64 {
		info, err := os.Stat(Program(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return float64(info.Size()) / 1e6
	}
	edge, full := size("berth-edge"), size("berth")
	return []figure{
		{row: "stripped program: berth-edge", berth: fmt.Sprintf("%.1f MB", edge), value: edge, format: "%.1f MB", goal: atMost(20), floor: atMost(28)},
		{row: "stripped program: berth", berth: fmt.Sprintf("%.1f MB", full), value: full, format: "%.1f MB", goal: atMost(40)},
	}
}

// newEdge is berth-edge with an empty store; it is not started yet.
func newEdge(t testing.TB) *Process {
	t.Helper()
	port := freePort(t)
	config := writeConfig(t, t.TempDir(), "config.json", t.TempDir(), port, nil, Options{Edit: quiet})
	return &Process{
		Name:  "berth-edge",
		Path:  Program(t, "berth-edge"),
		Args:  []string{"serve", config},
		ready: "http://" + loopback(port) + "/readyz",
	}
}

// startEmpty compares the time from exec to the first 200 on an empty store.
func startEmpty(t *testing.T, b *bench) []figure {
	rounds := pick(b, 10, 5)
	linked, peer := startBerth(t, Linked), Start(t, Options{Topology: Peer})
	edge := newEdge(t)
	edge.start(t)
	edge.waitReady(t)
	procs := []*Process{linked.Processes[0], edge, peer.Processes[0]}
	roots := []string{linked.URL(), edge.ready[:len(edge.ready)-len("/readyz")], peer.URL()}
	took := make([][]float64, len(procs))
	for range rounds {
		for i, p := range procs {
			took[i] = append(took[i], timeStart(t, p, roots[i]))
		}
	}
	line := func(row string, i int) figure {
		ms := median(took[i], itself)
		return figure{row: row, berth: millis(ms), peer: "docker-registry " + millis(median(took[2], itself)),
			value: ms, format: "%.0f ms", goal: atMost(40)}
	}
	return []figure{
		line("start to first 200, empty store: berth", 0),
		line("start to first 200, empty store: berth-edge", 1),
	}
}

// timeStart stops a program cleanly, starts it again and returns the
// milliseconds from exec to the first 200 of /v2/.
func timeStart(t testing.TB, p *Process, base string) float64 {
	t.Helper()
	if err := p.Stop(); err != nil && p.Name != "docker-registry" { // which dies of SIGTERM
		t.Fatal(err)
	}
	// No connection is kept: each try dials.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	begin := time.Now()
	p.start(t)
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(begin).Seconds() * 1e3
			}
		}
		<-time.After(500 * time.Microsecond)
	}
	t.Fatalf("%s did not answer within %v\n%s", p.Name, readyWithin, p.tail())
	return 0
}

func itself(v float64) float64 { return v }

func millis(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// idlePrograms are programs that do nothing while other rows are measured.
type idlePrograms struct {
	after time.Duration
	reads []chan idleMemory
}

type idleMemory struct {
	rss, anon float64 // MiB
	err       error
}

// startIdle starts berth and berth-edge on empty stores. Their memory is read
// once, some time after.
func startIdle(t *testing.T, b *bench) *idlePrograms {
	idle := &idlePrograms{after: pick(b, 60*time.Second, 10*time.Second)}
	edge := newEdge(t)
	edge.start(t)
	edge.waitReady(t)
	for _, p := range []*Process{startBerth(t, Linked).Processes[0], edge} {
		read := make(chan idleMemory, 1)
		idle.reads = append(idle.reads, read)
		time.AfterFunc(idle.after, func() {
			var m idleMemory
			m.rss, m.anon, m.err = residentMemory(p.PID())
			read <- m
		})
	}
	return idle
}

// figures waits for the readings.
func (i *idlePrograms) figures(t *testing.T, _ *bench) []figure {
	goals := []struct {
		name      string
		rss, anon float64
	}{{"berth", 45, 22}, {"berth-edge", 30, 14}}
	var out []figure
	for n, g := range goals {
		m := <-i.reads[n]
		if m.err != nil {
			t.Fatal(m.err)
		}
		text := fmt.Sprintf("%.1f MiB, of it anonymous %.1f", m.rss, m.anon)
		row := fmt.Sprintf("idle memory after %v: %s: ", i.after, g.name)
		out = append(out,
			figure{row: row + "RSS", berth: text, value: m.rss, format: "%.1f MiB", goal: atMost(g.rss)},
			figure{row: row + "RssAnon", berth: text, value: m.anon, format: "%.1f MiB", goal: atMost(g.anon)})
	}
	return out
}
