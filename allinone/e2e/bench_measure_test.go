//go:build bench

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A sample is one measurement of one contender.
type sample struct {
	wall  time.Duration
	cpu   time.Duration // user and system time of the server's processes
	units float64       // what was done: GiB, requests, images
}

func (s sample) rate() float64 { return s.units / s.wall.Seconds() } // units per second
func (s sample) cost() float64 { return s.cpu.Seconds() / s.units }  // CPU seconds per unit

// A contender is a server and the work it is measured with.
type contender struct {
	name  string
	procs []*Process
	work  func(t testing.TB) float64 // does the work once and returns its units
}

// measure runs the work once.
func (c contender) measure(t testing.TB) sample {
	t.Helper()
	cpu, begin := cpuTime(t, c.procs), time.Now()
	units := c.work(t)
	s := sample{wall: time.Since(begin), units: units}
	s.cpu = cpuTime(t, c.procs) - cpu
	return s
}

// interleave measures every contender once in each round, in turn, so that
// what else the machine does hits all of them alike. The result has one list
// of samples for each contender.
func interleave(t testing.TB, rounds int, contenders ...contender) [][]sample {
	t.Helper()
	all := make([][]sample, len(contenders))
	for range rounds {
		for i, c := range contenders {
			all[i] = append(all[i], c.measure(t))
		}
	}
	return all
}

// median returns the median of f over samples.
func median[S any](samples []S, f func(S) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = f(s)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// ratio returns the median over the rounds of f(a)/f(b). Both were measured
// one after the other in each round, which a ratio of two medians would forget.
func ratio(a, b []sample, f func(sample) float64) float64 {
	i := -1
	return median(a, func(s sample) float64 {
		i++
		return f(s) / f(b[i])
	})
}

// cpuTime is the user and system time that processes have used so far, from
// /proc/PID/stat (proc_pid_stat(5), fields 14 and 15), in steps of 10 ms.
func cpuTime(t testing.TB, procs []*Process) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, p := range procs {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			t.Fatalf("reading the CPU time of %s: %v", p.Name, err)
		}
		// The second field is the program's name, which may hold spaces.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100 wherever Go runs on Linux
		}
	}
	return sum
}

// residentMemory is RSS and its anonymous part, in MiB.
func residentMemory(pid int) (rss, anon float64, err error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	for key, to := range map[string]*float64{"VmRSS": &rss, "RssAnon": &anon} {
		if _, err := fmt.Sscanf(firstMatch(path, key), "%f kB", to); err != nil {
			return 0, 0, fmt.Errorf("reading %s of %s: %w", key, path, err)
		}
		*to /= 1 << 10
	}
	return rss, anon, nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkTrouble  = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses|Socket errors): .*$`)
)

// wrk loads a URL with 32 connections and returns the number of requests.
// args are given to the script (see wrk(1)); script is empty for plain GETs.
func wrk(t testing.TB, d time.Duration, url, script string, args ...string) float64 {
	t.Helper()
	all := []string{"-t2", "-c32", fmt.Sprintf("-d%ds", int(d.Seconds()))}
	if script != "" {
		all = append(all, "-s", script)
	}
	all = append(append(all, url), args...)
	out, err := exec.Command("wrk", all...).CombinedOutput()
	if err != nil {
		t.Fatalf("wrk %v: %v (it is in Debian's package wrk)\n%s", all, err, out)
	}
	if bad := wrkTrouble.Find(out); bad != nil {
		t.Fatalf("wrk %v: %s", all, bad)
	}
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		t.Fatalf("wrk %v did not count requests:\n%s", all, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || n == 0 {
		t.Fatalf("wrk %v: no requests (%v)\n%s", all, err, out)
	}
	return n
}

// How figures are printed.
func perGiB(s []sample) string {
	return fmt.Sprintf("%.0f MB/s, %.2f CPU-s/GiB",
		median(s, sample.rate)*(1<<30)/1e6, median(s, sample.cost))
}

func perRequest(s []sample) string {
	return fmt.Sprintf("%.0f/s, %.0f CPU-µs", median(s, sample.rate), median(s, sample.cost)*1e6)
}

func perImage(s []sample) string {
	return fmt.Sprintf("%.0f/s, %.2f CPU-ms", median(s, sample.rate), median(s, sample.cost)*1e3)
}
