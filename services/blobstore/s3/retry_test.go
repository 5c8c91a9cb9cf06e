package s3

import (
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/berth-registry/berth/registry/config"
)

// troubled answers every request itself, some with an error.
type troubled struct {
	rate     float64 // how many fail
	rand     *rand.Rand
	attempts int
}

func (s *troubled) RoundTrip(r *http.Request) (*http.Response, error) {
	s.attempts++
	status := http.StatusOK
	if s.rand.Float64() < s.rate {
		status = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: http.Header{}, Body: http.NoBody}, nil
}

// A store in trouble gets no more than a tenth of requests on top, and what was
// saved up while it was well; one that fails now and then is tried again.
func TestG13RetryBudget(t *testing.T) {
	const calls = 1000
	for _, test := range []struct {
		rate      float64
		most      int // attempts
		succeeded int // at least
	}{
		{0, calls, calls},
		{0.02, calls + calls*4/100, calls},
		{0.3, calls + calls/10 + budgetMax, calls * 7 / 10},
		{1, calls + budgetMax, 0},
	} {
		synctest.Test(t, func(t *testing.T) { // so that pauses take no time
			server := &troubled{rate: test.rate, rand: rand.New(rand.NewPCG(1, 2))}
			cfg := config.S3{Bucket: "b", Region: "r", Endpoint: "http://s3.invalid", ForcePathStyle: true, AccessKey: "a", SecretKey: "s"}
			api, err := newAPI(t.Context(), cfg, Options{Transport: server}, new(atomic.Pointer[meters]))
			if err != nil {
				t.Fatal(err)
			}
			c := &client{api: api, bucket: cfg.Bucket}
			ok := 0
			for range calls {
				if c.check(t.Context()) == nil {
					ok++
				}
			}
			if server.attempts > test.most || ok < test.succeeded {
				t.Errorf("%v of requests fail: %d attempts for %d calls, want at most %d; %d succeeded, want %d",
					test.rate, server.attempts, calls, test.most, ok, test.succeeded)
			}
		})
	}
}
