package metrics

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// process adds what the kernel knows.
func (s *Set) process() {
	began := float64(time.Now().UnixMilli()) / 1000
	s.Func(GaugeKind, "process_start_time_seconds", "When the process began, in seconds since 1970.", func() float64 { return began })
	s.Func(CounterKind, "process_cpu_seconds_total", "CPU time, user and system.", cpuSeconds)
	s.Func(GaugeKind, "process_resident_memory_bytes", "Memory that is in RAM, pages of mapped files included.", func() float64 { return procPages("/proc/self/statm", 1) })
	s.Func(GaugeKind, "process_virtual_memory_bytes", "Address space in use.", func() float64 { return procPages("/proc/self/statm", 0) })
	s.Func(GaugeKind, "process_anonymous_memory_bytes", "Memory in RAM that is no file: what a limit of memory has to hold.", func() float64 {
		return procPages("/proc/self/statm", 1) - procPages("/proc/self/statm", 2)
	})
	s.Func(GaugeKind, "process_open_fds", "Open file descriptors.", openFiles)
	s.Func(GaugeKind, "process_max_fds", "File descriptors that may be open.", func() float64 {
		var limit syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) // can't fail
		return float64(limit.Cur)
	})
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // can't fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// procPages returns a field of a file in /proc that counts pages, in bytes.
func procPages(file string, field int) float64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if field >= len(fields) {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[field]), 10, 64)
	return float64(n) * float64(os.Getpagesize())
}

func openFiles() float64 {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return float64(max(len(names)-1, 0)) // without d
}
