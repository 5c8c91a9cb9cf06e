//go:build bench

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// streamMemory tells what a transfer in progress costs in memory: how much more
// anonymous memory all processes of a topology have while many clients are in
// the middle of one and do not go on, by their number. The first of them do not
// count: they get what the blobstore has for a few fast streams.
func streamMemory(t *testing.T, _ *bench) []figure {
	const (
		size    = 32 << 20
		begun   = 4 << 20 // of which a client has sent this much
		settled = 2 * time.Second
		first   = 8
	)
	blob := make([]byte, size)
	linked, split := startBerth(t, Linked), startBerth(t, Split)
	measure := func(s *System, streams int, begin func(*benchClient) (end func(), err error)) float64 {
		c := newBenchClient(s.URL(), "bench/streams")
		if err := c.blob(blob); err != nil {
			t.Fatal(err)
		}
		before := 0.0
		for n := range first + streams {
			if n == first {
				<-time.After(settled)
				before = anonymous(t, s)
			}
			end, err := begin(c)
			if err != nil {
				t.Fatal(err)
			}
			defer end()
		}
		<-time.After(settled)
		return max(0, anonymous(t, s)-before) / float64(streams)
	}
	read := func(c *benchClient) (func(), error) {
		resp, err := c.http.Get(c.base + "/blobs/" + digest.FromBytes(blob).String())
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			return nil, err
		}
		return func() { resp.Body.Close() }, nil
	}
	write := func(c *benchClient) (func(), error) {
		upload, err := c.begin()
		if err != nil {
			return nil, err
		}
		r, w := io.Pipe()
		req, err := http.NewRequest(http.MethodPatch, upload, r)
		if err != nil {
			return nil, err
		}
		req.ContentLength = size
		go func() {
			if resp, err := c.http.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		if _, err := w.Write(blob[:begun]); err != nil {
			return nil, err
		}
		return func() { w.CloseWithError(io.ErrUnexpectedEOF) }, nil
	}
	var out []figure
	for _, row := range []struct {
		name    string
		system  *System
		streams int
		begin   func(*benchClient) (func(), error)
		goal    bound
	}{
		{"memory for each of 64 more downloads that wait, linked", linked, 64, read, atMost(64)},
		{"memory for each of 64 more uploads that wait, linked", linked, 64, write, atMost(64)},
		{"memory for each of 16 more downloads that wait, split, all processes", split, 16, read, atMost(3 << 10)},
		{"memory for each of 16 more uploads that wait, split, all processes", split, 16, write, atMost(3 << 10)},
	} {
		kib := measure(row.system, row.streams, row.begin)
		out = append(out, figure{row: row.name, berth: fmt.Sprintf("%.0f KiB", kib), value: kib, format: "%.0f KiB", goal: row.goal})
	}
	return out
}

// anonymous returns the anonymous memory of all processes of s, in KiB.
func anonymous(t *testing.T, s *System) float64 {
	t.Helper()
	sum := 0.0
	for _, p := range s.Processes {
		_, anon, err := residentMemory(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		sum += anon * 1024
	}
	return sum
}
