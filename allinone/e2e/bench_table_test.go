//go:build bench

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A bound is a limit of a figure; the zero value is none.
type bound struct {
	limit float64
	least bool // the figure must be at least limit, not at most
}

func atLeast(limit float64) bound { return bound{limit: limit, least: true} }
func atMost(limit float64) bound  { return bound{limit: limit} }

func (b bound) holds(value float64) bool {
	switch {
	case b.limit == 0:
		return true
	case b.least:
		return value >= b.limit
	default:
		return value <= b.limit
	}
}

func (b bound) text(format string) string {
	switch {
	case b.limit == 0:
		return "–"
	case b.least:
		return "≥ " + fmt.Sprintf(format, b.limit)
	default:
		return "≤ " + fmt.Sprintf(format, b.limit)
	}
}

// A figure is one line of the table.
type figure struct {
	row    string  // what was measured
	berth  string  // absolute figures of Berth
	peer   string  // name and absolute figures of what it is compared with; empty for none
	value  float64 // the number that goal and floor are about
	format string  // how to print it and its bounds
	goal   bound   // what the design asks for
	floor  bound   // below this the run fails

	before []float64 // values of the attempts before, when the row was repeated
}

func (f figure) result() string { return fmt.Sprintf(f.format, f.value) }

const (
	holds      = "ok"
	missesGoal = "goal missed"
	belowFloor = "BELOW FLOOR"
)

func (f figure) verdict() string {
	switch {
	case !f.floor.holds(f.value):
		return belowFloor
	case !f.goal.holds(f.value):
		return missesGoal
	case f.goal.limit == 0 && f.floor.limit == 0:
		return ""
	default:
		return holds
	}
}

type table []figure

// text is the table in Markdown, padded so that it reads well as it is.
func (t table) text() string {
	cells := [][]string{{"figure", "Berth", "peer in the same run", "result", "goal", "floor", ""}}
	for _, f := range t {
		verdict := f.verdict()
		if len(f.before) > 0 {
			verdict = strings.TrimSpace(fmt.Sprintf("%s (attempt %d, before: %s)", verdict, len(f.before)+1, eachOf(f.format, f.before)))
		}
		cells = append(cells, []string{f.row, f.berth, orDash(f.peer), f.result(), f.goal.text(f.format), f.floor.text(f.format), verdict})
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var out strings.Builder
	for n, line := range cells {
		for i, c := range line {
			out.WriteString("| " + c + strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+1))
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				out.WriteString("|" + strings.Repeat("-", w+2))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}

func eachOf(format string, values []float64) string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprintf(format, v))
	}
	return strings.Join(out, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// describeRun says what was measured, when and on what.
func describeRun(t testing.TB, b *bench) string {
	// The programs' own word: the tree may have moved on since they were built.
	version, err := exec.Command(Program(t, "berth"), "version").Output()
	if err != nil {
		t.Fatalf("asking berth for its version: %v", err)
	}
	command := "make bench"
	if b.short {
		command = "BENCH_SHORT=1 make bench"
	}
	busy := ""
	if b.load >= 1 {
		busy = " **Other work ran on the machine: these are not the figures of a quiet one.**"
	}
	return fmt.Sprintf("%s, %s, `%s`, on %d CPUs (%s), %s of memory, Linux %s, %s; load average before the run %.1f.%s",
		bytes.TrimSpace(version), time.Now().UTC().Format(time.DateOnly), command, runtime.NumCPU(),
		firstMatch("/proc/cpuinfo", "model name"), memory(), kernel(), runtime.Version(), b.load, busy)
}

// firstMatch returns the value of the first "key : value" line of a file of /proc.
func firstMatch(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memory() string {
	var kib float64
	if _, err := fmt.Sscanf(firstMatch("/proc/meminfo", "MemTotal"), "%f kB", &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(text))
}

// loadAverage is that of the last minute: a figure from a busy machine is worth
// little, and the reader should know.
func loadAverage(t testing.TB) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		t.Fatalf("reading the load average: %v", err)
	}
	return load
}

const (
	tableBegin = "<!-- table: written by BENCH_UPDATE=1 make bench -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// updateDocument replaces the table in docs/performance.md.
func updateDocument(t testing.TB, b *bench) {
	t.Helper()
	path := filepath.Join(Root(t), "docs", "performance.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), tableBegin)
	_, tail, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", path)
	}
	body := "\n" + describeRun(t, b) + "\n\n" + b.table.text() + "\n"
	if err := os.WriteFile(path, []byte(head+tableBegin+body+tableEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
