package htpasswd

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkS038Medians prints what answers take, in microseconds: to an unknown name, to
// passwords that differ in their first and last byte, and to the right one. They are to
// be alike; TestS038OneHashWhateverTheAnswer holds why.
func BenchmarkS038Medians(b *testing.B) {
	text, err := Hash("correct horse", 6)
	if err != nil {
		b.Fatal(err)
	}
	u, err := Parse([]byte("alice:" + text))
	if err != nil {
		b.Fatal(err)
	}
	cases := []struct{ name, user, password string }{
		{"unknown", "nobody", "correct horse"}, {"first", "alice", "Xorrect horse"}, {"last", "alice", "correct horsX"}, {"right", "alice", "correct horse"},
	}
	took := make([][]time.Duration, len(cases))
	for b.Loop() {
		for i, c := range cases { // in turns, so that all meet the same machine
			began := time.Now()
			u.Verify(c.user, c.password)
			took[i] = append(took[i], time.Since(began))
		}
	}
	for i, c := range cases {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Nanoseconds())/1e3, c.name+"-median-µs")
	}
}
