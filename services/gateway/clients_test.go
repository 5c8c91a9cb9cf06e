package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestS108UploadsPerClient: clients that send a byte every 30 seconds keep their
// places, but one of them gets no more than its share; others, and reads, do not
// notice, and a place that is free is given away at once.
func TestS108UploadsPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.cfg.UploadsPerClient = 3
		w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
			return registry.Actor{ID: r.Header.Get("X-User")}, nil
		})
		p := w.servePipes(t)
		// upload sends size bytes, one every 30 seconds, and returns the answer.
		upload := func(user string, size int) chan *http.Response {
			answer := make(chan *http.Response, 1)
			c := p.dial()
			t.Cleanup(func() { c.Close() })
			go func() {
				fmt.Fprintf(c, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nX-User: %s\r\nContent-Length: %d\r\n\r\n", digestA, user, size)
				for range size {
					time.Sleep(30 * time.Second) // fake: this is a bubble
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}()
			go func() {
				res, _ := http.ReadResponse(bufio.NewReader(c), nil)
				answer <- res
			}()
			synctest.Wait()
			return answer
		}
		var slow []chan *http.Response
		for range 3 {
			slow = append(slow, upload("", 20))
		}
		if res := <-upload("", 1); res == nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
			t.Fatalf("one more: got %v", res)
		}
		if res := p.ask(t, "GET", "/v2/_catalog"); res.StatusCode != 200 {
			t.Errorf("a read: got %v", res)
		}
		if res := p.ask(t, "POST", "/v2/a/blobs/uploads/"); res.StatusCode != 202 {
			t.Errorf("a request without a body: got %v", res)
		}
		if res := <-upload("alice", 1); res == nil || res.StatusCode != 400 { // its digest is wrong
			t.Errorf("another client: got %v", res)
		}
		for _, s := range slow {
			if res := <-s; res == nil || res.StatusCode != 400 {
				t.Errorf("a slow one: got %v", res)
			}
		}
		if res := <-upload("", 1); res == nil || res.StatusCode != 400 {
			t.Errorf("after the others: got %v", res)
		}
	})
}

func TestClientOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1234":              "192.0.2.1",
		"[::ffff:192.0.2.1]:1234":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1234": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":            "fe80::/64",
		"@":                           "",
		"":                            "",
		"pipe":                        "pipe",
	} {
		if got := clientOf(registry.Actor{}, remote); got != want {
			t.Errorf("%q: got %q, want %q", remote, got, want)
		}
		if got := clientOf(registry.Actor{ID: "alice"}, remote); got != "user alice" {
			t.Errorf("%q: alice is %q", remote, got)
		}
	}
}

func TestClientsForgetWhoHasLeft(t *testing.T) {
	var c clients
	c.init(2, "is sending", "x")
	for i := range 1000 {
		leave, err := c.enter(net.IPv4(10, 0, byte(i>>8), byte(i)).String())
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if len(c.sending) != 0 {
		t.Errorf("%d clients are remembered", len(c.sending))
	}
}
