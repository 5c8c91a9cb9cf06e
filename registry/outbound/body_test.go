package outbound

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	names := map[string]string{"one.test": "1.1.1.1"}
	for _, chunked := range []bool{false, true} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
			if chunked {
				rw.(http.Flusher).Flush()
			}
			_, _ = io.WriteString(rw, strings.Repeat("x", 100))
		}, names)
		for _, test := range []struct {
			limit int64
			ok    bool
		}{{0, true}, {100, true}, {101, true}, {99, false}} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test/", nil)
			resp, err := w.client(Options{MaxBody: test.limit}).Do(r)
			var n int
			if err == nil {
				var b []byte
				b, err = io.ReadAll(resp.Body)
				n = len(b)
				resp.Body.Close()
			}
			if test.ok != (err == nil) || !test.ok && !errors.Is(err, ErrTooLarge) || test.ok && n != 100 {
				t.Errorf("chunked %v, limit %d: %d bytes, %v", chunked, test.limit, n, err)
			}
		}
		for limit, ok := range map[int64]bool{99: false, 100: true} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test/", nil)
			resp, err := w.client(Options{}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ReadAll(resp, limit); ok != (err == nil) {
				t.Errorf("ReadAll of %d: %v", limit, err)
			}
		}
		w.server.Close()
	}
	w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("X", strings.Repeat("x", 100<<10)) }, names)
	if _, err := get(t, w.client(Options{}), "http://one.test/"); err == nil {
		t.Error("a header of 100 KiB was taken")
	}
}

// TestStalls gives up transfers in which nothing moves, and no other.
func TestStalls(t *testing.T) {
	const idle = 1500 * time.Millisecond
	names := map[string]string{"one.test": "1.1.1.1"}
	release := make(chan struct{})
	w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow": // longer than idle in all, never without a byte for as long
			for range 12 {
				_, _ = io.WriteString(rw, "x")
				rw.(http.Flusher).Flush()
				time.Sleep(idle / 10)
			}
		case "/stall":
			_, _ = io.WriteString(rw, "x")
			rw.(http.Flusher).Flush()
			<-release
		case "/silent", "/deaf":
			<-release
		}
	}, names)
	defer w.server.CloseClientConnections()
	defer close(release)
	c := w.client(Options{Idle: idle, Header: idle})
	for path, ok := range map[string]bool{"/slow": true, "/stall": false, "/silent": false} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test"+path, nil)
		resp, err := c.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if ok != (err == nil) || path == "/stall" && !errors.Is(err, ErrStalled) {
			t.Errorf("%s: %v", path, err)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://one.test/deaf", io.LimitReader(zeros{}, 1<<30))
	resp, err := c.Do(r)
	if err == nil {
		resp.Body.Close()
		t.Error("a peer that reads nothing got a gigabyte")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
