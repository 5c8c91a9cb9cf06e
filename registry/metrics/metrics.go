package metrics

import (
	"slices"
	"sync/atomic"
	"time"
)

// Counter is a number that only grows. The zero value is ready for use; methods
// may be called by many goroutines.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n, which is not negative.
func (c *Counter) Add(n int64) { c.n.Add(uint64(max(n, 0))) }

// Value returns the sum so far.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Gauge is a number that goes up and down. The zero value is ready for use;
// methods may be called by many goroutines.
type Gauge struct{ n atomic.Int64 }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Set makes n the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Value returns the value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// Histogram counts observations by size. Its methods may be called by many
// goroutines. Make one with [Set.Durations] or [Set.Sizes].
type Histogram struct {
	bounds []int64         // upper ends of the buckets but the last, which has none
	counts []atomic.Uint64 // one per bucket, not cumulated
	sum    atomic.Int64
	unit   float64 // how much of an observation is one in the output
}

func newHistogram(bounds []int64, unit float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1), unit: unit}
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) { h.observe(int64(d)) }

// Since counts the time since began.
func (h *Histogram) Since(began time.Time) { h.observe(int64(time.Since(began))) }

// ObserveSize counts a number of things.
func (h *Histogram) ObserveSize(n int) { h.observe(int64(n)) }

func (h *Histogram) observe(v int64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	h.sum.Add(v)
}

// Count returns how many observations there were.
func (h *Histogram) Count() uint64 {
	total := uint64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	return total
}

// Latency are bounds for what a client waits for: from half a millisecond, a
// manifest from memory, to the minutes that a large transfer takes.
var Latency = []time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, time.Second,
	5 * time.Second, 30 * time.Second, 5 * time.Minute,
}

// Quick are bounds for steps of the work inside: queries, syncs of a disk.
var Quick = []time.Duration{
	10 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 10 * time.Second,
}
