package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestP23S108ClientSlowerThanAWrite takes 2 KB a second, so that a single write
// lasts longer than the idle time, and then nothing more. A stand-in for the
// kernel's queue tells what it took.
func TestP23S108ClientSlowerThanAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.cfg.WriteIdle = 10 * time.Second
		content := strings.Repeat("x", 1<<20)
		d := registry.SHA256.FromString(content)
		u, _ := w.deps.Blobs.Start(t.Context(), "", "")
		stored, err := w.deps.Blobs.Commit(t.Context(), u, strings.NewReader(content), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.deps.Catalog.Link(t.Context(), registry.Actor{}, "a", stored); err != nil {
			t.Fatal(err)
		}
		var left atomic.Int64
		left.Store(1 << 30)
		p := &pipes{conns: make(chan net.Conn)}
		s := w.gateway(t).Server()
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, queueKey{}, queue(func() (int, bool) { return int(left.Load()), true }))
		}
		go s.Serve(p)
		defer s.Close()

		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /v2/a/blobs/"+d.String()+" HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		bite := make([]byte, 2048)
		for i := range 200 {
			time.Sleep(time.Second) // fake: this is a bubble
			n, err := io.ReadFull(res.Body, bite)
			if err != nil {
				t.Fatalf("cut off after %d s: %v", i, err)
			}
			left.Add(-int64(n))
		}
		stopped := time.Now()
		time.Sleep(time.Minute)
		rest, err := io.ReadAll(res.Body)
		if err == nil || len(rest) > 2*writeChunk {
			t.Errorf("a client that takes nothing for %v gets %d bytes more, %v", time.Since(stopped), len(rest), err)
		}
	})
}

// TestProgressEndsWithItsAnswer: on a connection that is used again, no deadline
// of the answer before is set.
func TestProgressEndsWithItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &deadlines{}
		left := 1000
		p := &progress{queue: func() (int, bool) { left--; return left, true }, control: http.NewResponseController(c), idle: time.Minute, queued: 1000}
		p.mu.Lock()
		p.timer = time.AfterFunc(p.idle/looks, p.look)
		p.mu.Unlock()
		time.Sleep(time.Minute + time.Second) // fake: this is a bubble
		p.end()
		if c.set != looks {
			t.Errorf("%d deadlines in the idle time, want %d", c.set, looks)
		}
		time.Sleep(time.Hour)
		if c.set != looks {
			t.Errorf("%d deadlines, %d of them after the end", c.set, c.set-looks)
		}
	})
}

// deadlines counts the deadlines that are set.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetWriteDeadline(time.Time) error { d.set++; return nil }

// TestQueueOfSockets looks at real ones: what the client has not taken is in the
// queue, until it has.
func TestQueueOfSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // see progress_other.go
	}
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for name, c := range map[string]net.Conn{"plain": server, "TLS": tls.Server(server, &tls.Config{})} {
			q, ok := withConn(t.Context(), c).Value(queueKey{}).(queue)
			if !ok {
				t.Fatalf("%s, %s: no queue", network, name)
			}
			sent := make(chan error, 1)
			go func() {
				_, err := server.Write(make([]byte, 20<<20))
				sent <- err
			}()
			for n := 0; n == 0; {
				if n, ok = q(); !ok {
					t.Fatalf("%s, %s: unknown", network, name)
				}
				runtime.Gosched()
			}
			if _, err := io.CopyN(io.Discard, client, 20<<20); err != nil || <-sent != nil {
				t.Fatal(err)
			}
			for n := 1; n > 0; n, _ = q() {
				runtime.Gosched() // the acknowledgement is on its way
			}
		}
	}
}
