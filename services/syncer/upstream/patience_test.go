package upstream

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPatience: of a host that lets somebody wait in vain only one request in a while
// may take its time, until it answers.
func TestPatience(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h, err := New(Options{URL: "https://a.example.com", Transport: http.DefaultTransport, Answer: 20 * time.Second, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var got []time.Duration
	ask := func(n int) {
		for range n {
			got = append(got, h.patience()/time.Second)
		}
	}
	ask(2)
	h.Silent()
	ask(2) // the first has been tried just now
	now = now.Add(probeEvery)
	ask(3)
	h.Succeeded()
	ask(2)
	if diff := cmp.Diff([]time.Duration{20, 20, 2, 2, 20, 2, 2, 20, 20}, got); diff != "" {
		t.Error(diff)
	}
}
