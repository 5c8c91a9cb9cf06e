package metrics

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is the type of a metric as Prometheus knows it.
type Kind string

// The kinds.
const (
	CounterKind   Kind = "counter"
	GaugeKind     Kind = "gauge"
	HistogramKind Kind = "histogram"
	SummaryKind   Kind = "summary" // of which only sum and count are kept
)

// Set is a collection of metrics. Its methods may be called by many goroutines,
// and on nil: what they return works then, and nobody sees it.
//
// Labels are given as names and values in turn. Asking again for a metric with
// the same name and labels returns the same one. It is a mistake of the program,
// and a panic, to ask for one name as two kinds, or to give a name or label that
// Prometheus would not take.
type Set struct {
	mu       sync.Mutex // guards the fields below
	families map[string]*family
	writing  sync.Mutex // one reader at a time
}

// family is all that has one name.
type family struct {
	name, help string
	kind       Kind
	series     map[string]metric // by labels as written
	collect    []func(*Emitter)
}

// metric is a *Counter, *Gauge, *Histogram or value.
type metric any

// value is read when it is asked for.
type value func() float64

// New returns an empty Set.
func New() *Set { return &Set{families: make(map[string]*family)} }

// Counter returns a counter. Its name ends in _total.
func (s *Set) Counter(name, help string, labels ...string) *Counter {
	return add(s, name, help, CounterKind, labels, func() *Counter { return new(Counter) })
}

// Gauge returns a gauge.
func (s *Set) Gauge(name, help string, labels ...string) *Gauge {
	return add(s, name, help, GaugeKind, labels, func() *Gauge { return new(Gauge) })
}

// Durations returns a histogram of durations, in seconds. Its name ends in
// _seconds. bounds are ascending.
func (s *Set) Durations(name, help string, bounds []time.Duration, labels ...string) *Histogram {
	return add(s, name, help, HistogramKind, labels, func() *Histogram {
		ns := make([]int64, len(bounds))
		for i, b := range bounds {
			ns[i] = int64(b)
		}
		return newHistogram(ns, float64(time.Second))
	})
}

// Sizes returns a histogram of numbers of things. bounds are ascending.
func (s *Set) Sizes(name, help string, bounds []int64, labels ...string) *Histogram {
	return add(s, name, help, HistogramKind, labels, func() *Histogram { return newHistogram(slices.Clone(bounds), 1) })
}

// Func has f called for the value of a gauge or counter when somebody reads the
// set. f must be quick. The first function for a name and labels stays.
func (s *Set) Func(kind Kind, name, help string, f func() float64, labels ...string) {
	add(s, name, help, kind, labels, func() value { return f })
}

// Collect has f called for all series of a name when somebody reads the set. f
// must be quick, and must not emit the same labels twice.
func (s *Set) Collect(kind Kind, name, help string, f func(*Emitter)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fam := s.family(name, help, kind)
	fam.collect = append(fam.collect, f)
}

func add[M metric](s *Set, name, help string, kind Kind, labels []string, create func() M) M {
	if s == nil {
		return create()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fam := s.family(name, help, kind)
	key := writeLabels(labels)
	if old, ok := fam.series[key]; ok {
		return old.(M)
	}
	m := create()
	fam.series[key] = m
	return m
}

// family returns the family of that name. The caller holds s.mu.
func (s *Set) family(name, help string, kind Kind) *family {
	fam := s.families[name]
	if fam == nil {
		if !wellNamed(name, true) || help == "" {
			panic(fmt.Sprintf("metrics: %q can't be a name, or has no help", name))
		}
		fam = &family{name: name, help: help, kind: kind, series: make(map[string]metric)}
		s.families[name] = fam
	}
	if fam.kind != kind {
		panic(fmt.Sprintf("metrics: %s is a %s, not a %s", name, fam.kind, kind))
	}
	return fam
}

// wellNamed reports whether s can name a metric or, without colons, a label.
func wellNamed(s string, metric bool) bool {
	for i, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || metric && c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// writeLabels returns labels as they are written between the braces.
func writeLabels(labels []string) string {
	if len(labels)%2 != 0 {
		panic(fmt.Sprintf("metrics: a label without a value in %q", labels))
	}
	var b strings.Builder
	for i := 0; i < len(labels); i += 2 {
		if !wellNamed(labels[i], false) {
			panic(fmt.Sprintf("metrics: %q can't be the name of a label", labels[i]))
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i])
		b.WriteString(`="`)
		escapeLabel.WriteString(&b, strings.ToValidUTF8(labels[i+1], "\uFFFD"))
		b.WriteByte('"')
	}
	return b.String()
}
