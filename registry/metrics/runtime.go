package metrics

import (
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"time"
)

// Runtime adds what Go's runtime and the operating system know of this process,
// under the names that Prometheus's own client library gives them.
func (s *Set) Runtime() {
	s.Func(GaugeKind, "go_info", "Version of Go that built the program.", one, "version", runtime.Version())
	s.Func(GaugeKind, "go_sched_gomaxprocs_threads", "Threads that may run Go code at a time.", func() float64 { return float64(runtime.GOMAXPROCS(0)) })
	s.Func(GaugeKind, "go_goroutines", "Goroutines.", func() float64 { return float64(runtime.NumGoroutine()) })
	for _, m := range []struct {
		kind             Kind
		name, help, from string
	}{
		{GaugeKind, "go_memstats_heap_alloc_bytes", "Bytes of live objects, and of dead ones that are not collected yet.", "/memory/classes/heap/objects:bytes"},
		{GaugeKind, "go_memstats_heap_idle_bytes", "Bytes of the heap that are not in use and not given back.", "/memory/classes/heap/free:bytes"},
		{GaugeKind, "go_memstats_heap_released_bytes", "Bytes of the heap given back to the operating system.", "/memory/classes/heap/released:bytes"},
		{GaugeKind, "go_memstats_sys_bytes", "Bytes of address space taken from the operating system.", "/memory/classes/total:bytes"},
		{GaugeKind, "go_memstats_next_gc_bytes", "Size of the heap at which the next collection ends.", "/gc/heap/goal:bytes"},
		{CounterKind, "go_memstats_alloc_bytes_total", "Bytes allocated, freed ones too.", "/gc/heap/allocs:bytes"},
		{CounterKind, "go_memstats_mallocs_total", "Objects allocated, freed ones too.", "/gc/heap/allocs:objects"},
		{CounterKind, "go_memstats_frees_total", "Objects freed.", "/gc/heap/frees:objects"},
		{CounterKind, "go_gc_cpu_seconds_total", "CPU time spent on garbage collection, estimated.", "/cpu/classes/gc/total:cpu-seconds"},
	} {
		s.Func(m.kind, m.name, m.help, func() float64 { return readRuntime(m.from) })
	}
	s.Collect(SummaryKind, "go_gc_duration_seconds", "Pauses of the garbage collector.", func(e *Emitter) {
		stats := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
		debug.ReadGCStats(&stats)
		for i, q := range stats.PauseQuantiles {
			e.Emit(q.Seconds(), "quantile", strconv.FormatFloat(float64(i)/4, 'g', -1, 64))
		}
		e.EmitSummary(stats.PauseTotal, uint64(stats.NumGC))
	})
	s.process()
}

func one() float64 { return 1 }

func readRuntime(name string) float64 {
	sample := []runtimemetrics.Sample{{Name: name}}
	runtimemetrics.Read(sample)
	switch v := sample[0].Value; v.Kind() {
	case runtimemetrics.KindUint64:
		return float64(v.Uint64())
	case runtimemetrics.KindFloat64:
		return v.Float64()
	}
	return 0
}
