package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// taking is a registry behind a slow link: it takes a KiB of a request every now and
// then, up to some bytes.
type taking struct {
	every time.Duration
	most  int
}

func (s taking) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	buf := make([]byte, 1<<10)
	for got := 0; ; {
		var wait <-chan time.Time
		if got < s.most {
			n, err := r.Body.Read(buf)
			got += n
			if err == io.EOF {
				w := httptest.NewRecorder()
				w.Header().Set("Location", "/v2/a/blobs/uploads/2")
				w.WriteHeader(http.StatusAccepted)
				return w.Result(), nil
			}
			if err != nil {
				return nil, err
			}
			wait = time.After(s.every)
		}
		select {
		case <-wait:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// TestSlowUpload: a registry that takes the bytes of a push slowly is no registry that
// does not answer, and one that stops to take them is.
func TestSlowUpload(t *testing.T) {
	const size = 64 << 10
	for _, test := range []struct {
		name string
		most int
		ok   bool
	}{{"slow", 2 * size, true}, {"stops", size / 2, false}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := New(Options{URL: "https://a.example.com", Transport: taking{10 * time.Second, test.most}, Answer: 20 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				h.Silent() // also if the last request waited in vain
				h.hurry()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				u, err := h.Append(ctx, "a", &Upload{Location: "/v2/a/blobs/uploads/1"}, size, func() io.ReadCloser {
					return io.NopCloser(bytes.NewReader(make([]byte, size)))
				})
				if ctx.Err() != nil || (err == nil) != test.ok || test.ok && u.Offset != size {
					t.Errorf("%+v, %v", u, err)
				}
			})
		})
	}
}
