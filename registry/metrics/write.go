package metrics

import (
	"bytes"
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ContentType is the media type of what [Set.Text] returns: version 0.0.4 of the
// text format, which every scraper reads.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

var escapeHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

// Text returns all metrics, ordered by name. Only one call works at a time, so
// that readers can't pile up.
func (s *Set) Text() []byte {
	if s == nil {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()

	// A copy, because functions that are asked for values may ask for metrics.
	s.mu.Lock()
	families := make([]family, 0, len(s.families))
	for _, f := range s.families {
		c := *f
		c.series = maps.Clone(f.series)
		c.collect = slices.Clone(f.collect)
		families = append(families, c)
	}
	s.mu.Unlock()
	slices.SortFunc(families, func(a, b family) int { return cmp.Compare(a.name, b.name) })

	e := new(Emitter)
	for i := range families {
		e.family(&families[i])
	}
	return e.buf.Bytes()
}

// ServeHTTP answers with [Set.Text].
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text := s.Text()
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // nobody is left to tell
}

// Emitter writes the series of one family.
type Emitter struct {
	buf  bytes.Buffer
	name string // of the family
}

// Emit writes a gauge or counter.
func (e *Emitter) Emit(v float64, labels ...string) { e.line("", writeLabels(labels), "", v) }

// EmitSummary writes the sum and number of observations of a summary.
func (e *Emitter) EmitSummary(sum time.Duration, count uint64, labels ...string) {
	l := writeLabels(labels)
	e.line("_sum", l, "", sum.Seconds())
	e.line("_count", l, "", float64(count))
}

func (e *Emitter) family(f *family) {
	before := e.buf.Len()
	e.name = f.name
	e.buf.WriteString("# HELP " + f.name + " ")
	escapeHelp.WriteString(&e.buf, f.help)
	e.buf.WriteString("\n# TYPE " + f.name + " " + string(f.kind) + "\n")
	header := e.buf.Len()
	for _, labels := range slices.Sorted(maps.Keys(f.series)) {
		switch m := f.series[labels].(type) {
		case *Counter:
			e.line("", labels, "", float64(m.Value()))
		case *Gauge:
			e.line("", labels, "", float64(m.Value()))
		case *Histogram:
			e.histogram(m, labels)
		case value:
			e.line("", labels, "", m())
		}
	}
	for _, f := range f.collect {
		f(e)
	}
	if e.buf.Len() == header {
		e.buf.Truncate(before) // nothing to say of it
	}
}

// histogram writes the buckets cumulated, so that they agree with the count
// while others count on.
func (e *Emitter) histogram(h *Histogram, labels string) {
	total := uint64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
		le := "+Inf"
		if i < len(h.bounds) {
			le = formatFloat(float64(h.bounds[i]) / h.unit)
		}
		e.line("_bucket", labels, le, float64(total))
	}
	e.line("_sum", labels, "", float64(h.sum.Load())/h.unit)
	e.line("_count", labels, "", float64(total))
}

func (e *Emitter) line(suffix, labels, le string, v float64) {
	b := &e.buf
	b.WriteString(e.name)
	b.WriteString(suffix)
	if labels != "" || le != "" {
		b.WriteByte('{')
		b.WriteString(labels)
		if le != "" {
			if labels != "" {
				b.WriteByte(',')
			}
			b.WriteString(`le="` + le + `"`)
		}
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(formatFloat(v))
	b.WriteByte('\n')
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
