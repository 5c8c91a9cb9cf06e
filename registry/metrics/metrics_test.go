package metrics

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	s := New()
	s.Counter("b_total", "Things\nof \\ b.", "kind", "a\"\\\n\xff").Add(3)
	s.Counter("b_total", "Things\nof \\ b.", "kind", "plain").Inc()
	s.Gauge("a", "Level.").Set(-2)
	h := s.Durations("d_seconds", "Times.", []time.Duration{time.Millisecond, time.Second}, "op", "x")
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, time.Minute} {
		h.Observe(d)
	}
	s.Sizes("n", "Numbers.", []int64{1, 4}).ObserveSize(4)
	s.Func(GaugeKind, "f", "A function.", func() float64 { return 0.25 })
	s.Collect(SummaryKind, "sum_seconds", "A summary.", func(e *Emitter) { e.EmitSummary(1500*time.Millisecond, 2, "repo", "a/b") })
	s.Collect(GaugeKind, "nothing", "Has no series.", func(*Emitter) {})

	want := `# HELP a Level.
# TYPE a gauge
a -2
# HELP b_total Things\nof \\ b.
# TYPE b_total counter
b_total{kind="a\"\\\n` + "\uFFFD" + `"} 3
b_total{kind="plain"} 1
# HELP d_seconds Times.
# TYPE d_seconds histogram
d_seconds_bucket{op="x",le="0.001"} 2
d_seconds_bucket{op="x",le="1"} 4
d_seconds_bucket{op="x",le="+Inf"} 5
d_seconds_sum{op="x"} 61.002000001
d_seconds_count{op="x"} 5
# HELP f A function.
# TYPE f gauge
f 0.25
# HELP n Numbers.
# TYPE n histogram
n_bucket{le="1"} 0
n_bucket{le="4"} 1
n_bucket{le="+Inf"} 1
n_sum 4
n_count 1
# HELP sum_seconds A summary.
# TYPE sum_seconds summary
sum_seconds_sum{repo="a/b"} 1.5
sum_seconds_count{repo="a/b"} 2
`
	if diff := cmp.Diff(want, string(s.Text())); diff != "" {
		t.Error(diff)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Body.String() != want || w.Header().Get("Content-Type") != ContentType {
		t.Errorf("served %q as %q", w.Body, w.Header().Get("Content-Type"))
	}
}

func TestSameNameSameMetric(t *testing.T) {
	s := New()
	if first, again := s.Counter("c_total", "C.", "a", "1"), s.Counter("c_total", "C.", "a", "1"); first != again {
		t.Error("two counters with one name")
	}
	if s.Counter("c_total", "C.", "a", "1") == s.Counter("c_total", "C.", "a", "2") {
		t.Error("one counter for two label values")
	}
}

// TestNilSet counts without anybody who wants to know.
func TestNilSet(t *testing.T) {
	var s *Set
	s.Counter("c_total", "C.").Inc()
	s.Gauge("g", "G.").Add(1)
	s.Durations("d_seconds", "D.", Latency).Observe(time.Second)
	s.Func(GaugeKind, "f", "F.", func() float64 { return 1 })
	s.Collect(GaugeKind, "h", "H.", nil)
	s.Runtime()
	if text := s.Text(); text != nil {
		t.Errorf("got %q", text)
	}
}

func TestMistakesPanic(t *testing.T) {
	for name, f := range map[string]func(*Set){
		"two kinds":     func(s *Set) { s.Counter("x", "X."); s.Gauge("x", "X.") },
		"no help":       func(s *Set) { s.Counter("x", "") },
		"name":          func(s *Set) { s.Counter("0x", "X.") },
		"label name":    func(s *Set) { s.Counter("x", "X.", "a-b", "1") },
		"label colon":   func(s *Set) { s.Counter("x", "X.", "a:b", "1") },
		"half a label":  func(s *Set) { s.Counter("x", "X.", "a") },
		"no name":       func(s *Set) { s.Counter("", "X.") },
		"no label name": func(s *Set) { s.Counter("x", "X.", "", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(New())
		})
	}
}

func TestCounterOnlyGrows(t *testing.T) {
	var c Counter
	c.Add(2)
	c.Add(-1)
	if c.Value() != 2 {
		t.Errorf("got %d", c.Value())
	}
}

// TestReadersAgree reads while others count: in every reading a histogram's last
// bucket is its count, and nothing gets less.
func TestReadersAgree(t *testing.T) {
	s := New()
	h := s.Durations("d_seconds", "D.", Quick)
	var counting sync.WaitGroup
	for range 4 {
		counting.Go(func() {
			for i := range 5000 {
				h.Observe(time.Duration(i) * time.Millisecond)
				s.Counter("c_total", "C.", "n", strconv.Itoa(i%7)).Inc()
			}
		})
	}
	last := -1.0
	for range 50 {
		got := values(t, s)
		if got["d_seconds_count"] != got[`d_seconds_bucket{le="+Inf"}`] || got["d_seconds_count"] < last {
			t.Fatalf("count %v after %v, last bucket %v", got["d_seconds_count"], last, got[`d_seconds_bucket{le="+Inf"}`])
		}
		last = got["d_seconds_count"]
	}
	counting.Wait()
	if got := values(t, s); got["d_seconds_count"] != 20000 || h.Count() != 20000 || got[`c_total{n="3"}`] != 4*714 {
		t.Errorf("got %v and %v", got["d_seconds_count"], got[`c_total{n="3"}`])
	}
}

// values returns what a set says by series.
func values(t *testing.T, s *Set) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	for line := range strings.Lines(string(s.Text())) {
		if line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, twice := all[line[:i]]; twice {
			t.Errorf("%s is there twice", line[:i])
		}
		all[line[:i]] = v
	}
	return all
}

func TestCountingAllocatesNothing(t *testing.T) {
	s := New()
	c, h, top := s.Counter("c_total", "C."), s.Durations("d_seconds", "D.", Latency), NewTop[Counter](2, nil)
	top.Get("a", true).Inc()
	if n := testing.AllocsPerRun(100, func() {
		c.Inc()
		h.Observe(time.Second)
		top.Get("a", true).Inc()
		top.Get("another", true).Inc()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTop has room for two names.
func TestTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := NewTop[Counter](2, nil)
		use := func(names ...string) {
			for _, n := range names {
				top.Get(n, n != "x").Inc()
			}
		}
		want := func(want map[string]uint64) {
			t.Helper()
			got := make(map[string]uint64)
			top.Each(func(name string, c *Counter) { got[name] = c.Value() })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		use("x") // shall have no place
		want(map[string]uint64{Other: 1})
		use("a", "b", "c", "a")
		want(map[string]uint64{"a": 2, "b": 1, Other: 2})
		time.Sleep(TopIdle - time.Second)
		use("a", "c")
		want(map[string]uint64{"a": 3, "b": 1, Other: 3})
		time.Sleep(time.Second)
		use("c", "a", "b", "c") // b is idle: c gets its place, and b none
		want(map[string]uint64{"a": 4, "c": 2, Other: 4})
		time.Sleep(TopIdle)
		use("b", "d", "e")
		want(map[string]uint64{"b": 1, "d": 1, Other: 5})
	})
}

func TestTopIsBounded(t *testing.T) {
	top := NewTop[Counter](100, nil)
	var using sync.WaitGroup
	for range 4 {
		using.Go(func() {
			for i := range 20000 {
				top.Get(fmt.Sprint("repo", i), true).Inc()
			}
		})
	}
	using.Wait()
	n, sum := 0, uint64(0)
	top.Each(func(_ string, c *Counter) { n++; sum += c.Value() })
	if n != 101 || sum != 80000 {
		t.Errorf("%d names, %d uses; want 101, 80000", n, sum)
	}
}

func TestRuntime(t *testing.T) {
	s := New()
	s.Runtime()
	got := values(t, s)
	for _, name := range []string{
		"go_goroutines", "go_sched_gomaxprocs_threads", "go_memstats_heap_alloc_bytes", "go_memstats_sys_bytes", "go_memstats_next_gc_bytes",
		"go_memstats_alloc_bytes_total", "go_memstats_mallocs_total", "process_start_time_seconds",
		"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
	} {
		if v, ok := got[name]; !ok || v <= 0 || math.IsNaN(v) {
			t.Errorf("%s is %v, there: %v", name, v, ok)
		}
	}
	if a, r := got["process_anonymous_memory_bytes"], got["process_resident_memory_bytes"]; a <= 0 || a > r {
		t.Errorf("%v anonymous of %v resident bytes", a, r)
	}
	for _, name := range []string{"go_gc_duration_seconds_count", `go_gc_duration_seconds{quantile="0.5"}`, "go_gc_cpu_seconds_total", "go_memstats_heap_idle_bytes"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}
