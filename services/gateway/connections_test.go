package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// boundServer serves on loopback within bounds.
func boundServer(t *testing.T, w *world) string {
	t.Helper()
	g := w.gateway(t)
	l, err := g.conns.listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := g.Server()
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

func dialTCP(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// probe asks for /livez on a new connection, which the server may close first.
func probe(t *testing.T, address string) (int, error) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return 0, err // closed at once
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return res.StatusCode, nil
}

// TestS121ConnectionFlood opens more connections than there may be that say nothing,
// half a header, or nothing after an answer: probes are answered all the same.
func TestS121ConnectionFlood(t *testing.T) {
	for name, send := range map[string]string{
		"nothing":     "",
		"half header": "GET /livez HTTP/1.1\r\nHost:",
		"idle":        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		w := newWorld()
		w.cfg.Connections = 10
		w.cfg.HeaderTimeout = time.Hour
		w.cfg.KeepAlive = time.Hour
		address := boundServer(t, w)
		for range 100 {
			c := dialTCP(t, address)
			fmt.Fprint(c, send)
			if name == "idle" {
				if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
					t.Fatalf("%s: %v, %v", name, res, err)
				}
			}
		}
		if status, err := probe(t, address); err != nil || status != 200 {
			t.Errorf("%s: got %d, %v", name, status, err)
		}
	}
}

// TestS121AllAtWork: when every connection has a request in progress, one more waits
// until one ends, and none is cut.
func TestS121AllAtWork(t *testing.T) {
	w := newWorld()
	w.cfg.Connections = 3
	address := boundServer(t, w)
	var busy []net.Conn
	for range 3 {
		c := dialTCP(t, address)
		fmt.Fprintf(c, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", digestA)
		// It is at work when it asks for the body.
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		busy = append(busy, c)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := probe(t, address)
		answered <- err
	}()
	for _, c := range busy {
		select {
		case err := <-answered:
			t.Fatalf("one more was answered: %v", err)
		default:
		}
		fmt.Fprint(c, "abc")
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 400 { // after the rest of the 100
			if err == nil && res.StatusCode == 100 {
				continue
			}
			t.Errorf("one at work: got %v, %v", res, err)
		}
		break
	}
	if err := <-answered; err != nil {
		t.Errorf("after one ended: %v", err)
	}
}

func TestConnectionsPerAddress(t *testing.T) {
	w := newWorld()
	w.cfg.ConnectionsPerAddress = 2
	address := boundServer(t, w)
	for range 2 {
		c := dialTCP(t, address)
		fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
			t.Fatalf("%v, %v", res, err)
		}
	}
	if status, err := probe(t, address); err == nil {
		t.Errorf("one more got %d", status)
	}
}

func TestConnectionsFor(t *testing.T) {
	for descriptors, want := range map[uint64]int{1024: 448, 64: 32, 1 << 20: 524224, 1 << 63: 1048512} {
		if got := connectionsFor(descriptors); got != want {
			t.Errorf("%d descriptors: got %d", descriptors, got)
		}
	}
}
