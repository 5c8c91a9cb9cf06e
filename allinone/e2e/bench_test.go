//go:build bench

package e2e

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the plain Go programs that figures are
// compared with (see bench_peers_test.go), each in a process of its own.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// attempts is how often a row may be measured before a missed floor counts;
// BENCH_ATTEMPTS sets another number, for a machine whose figures are known to miss.
var attempts = func() int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_ATTEMPTS")); err == nil && n > 0 {
		return n
	}
	return 5
}()

// bench is one run of the benchmark.
type bench struct {
	short bool    // BENCH_SHORT: fewer rounds and a smaller store, for CI
	load  float64 // load average of the machine before the run
	table table
}

// pick chooses between the full run's value and the short one's.
func pick[T any](b *bench, full, short T) T {
	if b.short {
		return short
	}
	return full
}

// TestBench measures Berth and its peers in the same run, interleaved, prints
// one table, and fails when a floor is missed. BENCH_SHORT=1 makes a smaller
// run for CI, which only tells of it; BENCH_UPDATE=1 writes the table into docs/performance.md.
func TestBench(t *testing.T) {
	b := &bench{short: os.Getenv("BENCH_SHORT") != "", load: loadAverage(t)}
	refuseMemoryDisk(t)
	idle := startIdle(t, b)
	rows := []struct {
		name    string
		measure func(*testing.T, *bench) []figure
	}{
		{"size", programSizes},
		{"start empty", startEmpty},
		// Before rows that leave many deleted files: see docs/performance.md.
		{"small images", smallImages},
		{"get big", getBig},
		{"put big", putBig},
		{"put big to S3", putBigS3},
		{"small requests", smallRequests},
		{"requests on PostgreSQL", requestsOnPostgres},
		{"authentication", authentication},
		{"cold pulls", coldPulls},
		{"memory of streams", streamMemory},
		{"growth", growth},
		{"idle", idle.figures},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { b.measure(t, row.measure) })
	}
	t.Logf("%s\n\n%s", describeRun(t, b), b.table.text())
	for _, f := range b.table {
		if f.verdict() != belowFloor {
			continue
		}
		// The short run shows figures of a machine that may do other things, too.
		say := t.Errorf
		if b.short {
			say = t.Logf
		}
		say("below its floor: %s: %s, want %s", f.row, f.result(), f.floor.text(f.format))
	}
	if os.Getenv("BENCH_UPDATE") != "" {
		updateDocument(t, b)
	}
}

// measure runs one row, again when one of its figures misses a floor. What is
// kept is all figures of the first attempt that misses none, or else of the
// last one, and with them what the attempts before it gave: a floor that holds
// only now and then must not look like one that holds.
func (b *bench) measure(t *testing.T, measure func(*testing.T, *bench) []figure) {
	var kept []figure
	for range attempts {
		begin := time.Now()
		var got []figure
		// A subtest, so that an attempt's programs and files are gone before the next one.
		if !t.Run("measured", func(t *testing.T) { got = measure(t, b) }) {
			return
		}
		missed := false
		for i, f := range kept {
			got[i].before = append(f.before, f.value)
		}
		for _, f := range got {
			missed = missed || f.verdict() == belowFloor
		}
		kept = got
		t.Logf("took %v\n%s", time.Since(begin).Round(time.Second), table(got).text())
		if !missed {
			break
		}
	}
	b.table = append(b.table, kept...)
}

// refuseMemoryDisk fails when temporary files lie in memory, where fsync costs
// nothing and "durable" says nothing.
func refuseMemoryDisk(t *testing.T) {
	const tmpfsMagic = 0x01021994
	var fs syscall.Statfs_t
	if err := syscall.Statfs(os.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == tmpfsMagic {
		t.Fatalf("%s is in memory: set TMPDIR to a directory on a disk", os.TempDir())
	}
}
