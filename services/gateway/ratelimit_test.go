package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// TestRates counts requests in three seconds of a clock that stands still in each.
func TestRates(t *testing.T) {
	for name, test := range map[string]struct {
		limits Rates
		method string
		want   [3]int // of 100 requests in each second
	}{
		"none":           {Rates{}, "GET", [3]int{100, 100, 100}},
		"all":            {Rates{All: 10}, "GET", [3]int{10, 10, 10}},
		"one":            {Rates{All: 1}, "GET", [3]int{1, 1, 1}},
		"method":         {Rates{Methods: map[string]int{"GET": 5}}, "GET", [3]int{5, 5, 5}},
		"another method": {Rates{Methods: map[string]int{"GET": 5}}, "PUT", [3]int{100, 100, 100}},
		"both":           {Rates{All: 10, Methods: map[string]int{"GET": 20}}, "GET", [3]int{10, 10, 10}},
		"stricter":       {Rates{All: 10, Methods: map[string]int{"GET": 2}}, "GET", [3]int{2, 2, 2}},
	} {
		now := time.Unix(1, 0)
		l := rates{now: func() time.Time { return now }}
		l.limits.Store(&test.limits)
		for second, want := range test.want {
			for _, client := range []string{"user alice", "192.0.2.1"} { // each has its own
				got := 0
				for range 100 {
					after, err := l.take(client, test.method)
					if err == nil {
						got++
					} else if after <= 0 || after > time.Second {
						t.Fatalf("%s: retry after %v", name, after)
					}
				}
				if got != want {
					t.Errorf("%s: %d requests of %s in second %d, want %d", name, got, client, second, want)
				}
			}
			now = now.Add(time.Second)
		}
	}
}

// TestRatesAreBounded has more clients than are remembered, most of them gone.
func TestRatesAreBounded(t *testing.T) {
	now := time.Unix(1, 0)
	l := rates{now: func() time.Time { return now }}
	l.limits.Store(&Rates{All: 1})
	for i := range 3 * maxBuckets {
		if i%100 == 0 {
			now = now.Add(time.Millisecond)
		}
		if _, err := l.take(strconv.Itoa(i), "GET"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.buckets); n > maxBuckets {
		t.Errorf("%d clients are remembered", n)
	}
}

// TestRatesOf: a method is one however it is written, and of two limits both hold.
func TestRatesOf(t *testing.T) {
	got := ratesOf(config.HTTP{Ratelimit: &config.Ratelimit{Rate: 9, Methods: []config.MethodLimit{
		{Method: "get", Rate: 1}, {Method: "PUT", Rate: 2}, {Method: "Put", Rate: 7}, {Method: "DELETE", Rate: 8}, {Method: "DELETE", Rate: 3},
		{Method: "POST", Rate: 4}, {Method: "POST", Rate: 0},
	}}})
	want := Rates{All: 9, Methods: map[string]int{"GET": 1, "PUT": 2, "DELETE": 3, "POST": 4}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestS122GreedyClient: who makes more requests than a client may gets 429 with the
// time to wait, by user or by address, and others notice nothing. Wrong credentials
// count for the address.
func TestS122GreedyClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.cfg.Rates = Rates{All: 5}
		w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
			if r.Header.Get("X-User") == "wrong" {
				return registry.Actor{}, registry.ErrUnauthorized
			}
			return registry.Actor{ID: r.Header.Get("X-User")}, nil
		})
		p := w.servePipes(t)
		ask := func(user, target string) *http.Response {
			c := p.dial()
			defer c.Close()
			go fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nX-User: %s\r\nConnection: close\r\n\r\n", target, user)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		for i := range 20 {
			res := ask("greedy", "/v2/")
			if want := map[bool]int{true: 200, false: 429}[i < 5]; res.StatusCode != want || want == 429 && res.Header.Get("Retry-After") != "1" {
				t.Errorf("request %d: got %d, %s", i, res.StatusCode, res.Header)
			}
		}
		for i := range 20 {
			if res := ask("wrong", "/v2/"); (res.StatusCode == 401) != (i < 5) {
				t.Errorf("wrong credentials %d: got %d", i, res.StatusCode)
			}
		}
		if res := ask("", "/v2/"); res.StatusCode != 429 {
			t.Errorf("the address of who guessed: got %d", res.StatusCode)
		}
		for range 5 {
			if res := ask("other", "/v2/"); res.StatusCode != 200 {
				t.Errorf("another client: got %d", res.StatusCode)
			}
		}
		if res := ask("greedy", "/livez"); res.StatusCode != 200 {
			t.Errorf("a probe: got %d", res.StatusCode)
		}
		time.Sleep(time.Second) // fake: this is a bubble
		if res := ask("greedy", "/v2/"); res.StatusCode != 200 {
			t.Errorf("a second later: got %d", res.StatusCode)
		}
	})
}

// TestS122Concurrent: a client gets so many requests at a time and no more, whatever
// they are.
func TestS122Concurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.cfg.Rates = Rates{Concurrent: 3}
		w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
			return registry.Actor{ID: r.Header.Get("X-User")}, nil
		})
		p := w.servePipes(t)
		for range 3 { // uploads that are slow
			c := p.dial()
			defer c.Close()
			go fmt.Fprintf(c, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", digestA)
		}
		synctest.Wait()
		if res := p.ask(t, "GET", "/v2/_catalog"); res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
			t.Errorf("one more: got %v", res)
		}
		c := p.dial()
		defer c.Close()
		go fmt.Fprint(c, "GET /v2/_catalog HTTP/1.1\r\nHost: x\r\nX-User: alice\r\n\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
			t.Errorf("another client: got %v, %v", res, err)
		}
	})
}

// TestS123LogFlood: 10,000 requests a second for what is not there leave less than
// 1 MB of log, which says that there were more.
func TestS123LogFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := newWorld()
		w.log = slog.New(slog.NewJSONHandler(&out, nil))
		p := w.servePipes(t)
		c := p.dial()
		defer c.Close()
		const n = 10_000
		go func() {
			for range n {
				fmt.Fprint(c, "HEAD /v2/a/manifests/none HTTP/1.1\r\nHost: x\r\nUser-Agent: docker/29.0.0 go/go1.26 kernel/6.1 os/linux arch/amd64 UpstreamClient(x)\r\n\r\n")
			}
		}()
		r := bufio.NewReader(c)
		for range n { // at once: the clock of a bubble stands still while there is work
			res, err := http.ReadResponse(r, &http.Request{Method: http.MethodHead})
			if err != nil || res.StatusCode != 404 {
				t.Fatalf("got %v, %v", res, err)
			}
		}
		if size := out.Len(); size > 1<<20 {
			t.Errorf("%d bytes of log", size)
		}
		time.Sleep(time.Second)
		go fmt.Fprint(c, "GET /v2/a/manifests/none HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		synctest.Wait()
		if text := out.String(); !strings.Contains(text, fmt.Sprintf(`"left out":%d`, n-maxFailuresLogged)) {
			t.Errorf("the log does not say how many are missing: %s", text[len(text)-500:])
		}
	})
}
