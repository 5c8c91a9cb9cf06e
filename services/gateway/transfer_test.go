package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

// pipes is a listener whose connections are pipes, which fake time works with.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// dial returns a client's end.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// servePipes starts a server in a synctest bubble.
func (w *world) servePipes(t *testing.T) *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	s := w.gateway(t).Server()
	go s.Serve(p)
	t.Cleanup(func() { s.Close() })
	return p
}

// ask sends a request with an empty body and returns the answer.
func (p *pipes) ask(t *testing.T, method, target string) *http.Response {
	t.Helper()
	c := p.dial()
	defer c.Close()
	go fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", method, target)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestP23SlowUploadHasNoTotalLimit sends a byte every 50 seconds for hours.
func TestP23SlowUploadHasNoTotalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		loc := p.ask(t, "POST", "/v2/a/blobs/uploads/").Header.Get("Location")
		c := p.dial()
		defer c.Close()
		const size = 250
		began := time.Now()
		go func() {
			fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", loc, size)
			for range size {
				time.Sleep(50 * time.Second) // fake: this is a bubble
				io.WriteString(c, "x")
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 202 || res.Header.Get("Range") != "0-249" {
			t.Fatalf("got %v, %v", res, err)
		}
		if took := time.Since(began); took < 3*time.Hour {
			t.Errorf("took %v", took)
		}
	})
}

// TestP19StalledUploadCanBeResumed stops in the middle of a PATCH, in the two
// ways there are.
func TestP19StalledUploadCanBeResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		loc := p.ask(t, "POST", "/v2/a/blobs/uploads/").Header.Get("Location")

		c := p.dial()
		began := time.Now()
		go fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello", loc)
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 408 || !res.Close {
			t.Fatalf("silent client: got %v, %v", res, err)
		}
		io.Copy(io.Discard, res.Body)
		if _, err := r.ReadByte(); err == nil {
			t.Error("the connection is still open")
		}
		if took := time.Since(began); took < 55*time.Second || took > 70*time.Second {
			t.Errorf("cut off after %v, want a minute", took)
		}
		if got := p.ask(t, "GET", loc).Header.Get("Range"); got != "0-4" {
			t.Errorf("after silence: Range %s, want 0-4", got)
		}

		c = p.dial()
		fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Range: 5-99\r\nContent-Length: 95\r\n\r\n world", loc)
		c.Close()
		synctest.Wait()
		if got := p.ask(t, "GET", loc).Header.Get("Range"); got != "0-10" {
			t.Errorf("after a break: Range %s, want 0-10", got)
		}
		d := registry.SHA256.FromString("hello world")
		if res := p.ask(t, "PUT", loc+"&digest="+d.String()); res.StatusCode != 201 {
			t.Errorf("resumed: %v", res)
		}
	})
}

// TestP23SlowDownloadHasNoTotalLimit takes a blob in small bites, and then one
// not at all.
func TestP23SlowDownloadHasNoTotalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		content := strings.Repeat("x", 2<<20)
		d := registry.SHA256.FromString(content)
		u, _ := w.deps.Blobs.Start(t.Context(), "", "")
		s, err := w.deps.Blobs.Commit(t.Context(), u, strings.NewReader(content), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.deps.Catalog.Link(t.Context(), registry.Actor{}, "a", s); err != nil {
			t.Fatal(err)
		}
		p := w.servePipes(t)
		request := "GET /v2/a/blobs/" + d.String() + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

		c := p.dial()
		io.WriteString(c, request)
		began := time.Now()
		res, err := http.ReadResponse(bufio.NewReaderSize(c, 4096), nil)
		if err != nil {
			t.Fatal(err)
		}
		n, bite := 0, make([]byte, 40<<10)
		for err == nil {
			var m int
			m, err = io.ReadFull(res.Body, bite)
			n += m
			time.Sleep(20 * time.Second) // fake: this is a bubble
		}
		if n != len(content) || time.Since(began) < 10*time.Minute {
			t.Errorf("slow client: got %d bytes in %v, %v", n, time.Since(began), err)
		}

		c = p.dial()
		io.WriteString(c, request)
		time.Sleep(2 * time.Minute)
		b, err := io.ReadAll(c)
		if len(b) > 1<<20 || !errors.Is(err, io.EOF) && err != nil {
			t.Errorf("client that takes nothing: got %d bytes, %v", len(b), err)
		}
	})
}

// TestP20RefusedBeforeTheBody asks with Expect: 100-continue and never sends.
func TestP20RefusedBeforeTheBody(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	url := w.serve(t)
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	guard.deny("denied", registry.ErrDenied)
	guard.deny("anonymous", registry.ErrUnauthorized)
	for request, want := range map[string]int{
		"PATCH " + loc: 100,
		"PATCH " + strings.Replace(loc, "_state=", "_state=x", 1):    404,
		"PATCH " + strings.Replace(loc, "/v2/a/", "/v2/denied/", 1):  403,
		"PUT " + strings.Replace(loc, "/v2/a/", "/v2/anonymous/", 1): 401,
		"POST /v2/denied/blobs/uploads/?digest=" + digestA:           403,
		"PUT /v2/a/manifests/t":                                      413,
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n", request)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d", want)) {
			t.Errorf("%s: got %q, %v; want %d", request, line, err, want)
		}
		c.Close()
	}
}

// TestP20LargeManifests: who may not push is told so before a large manifest is sent,
// which would be in memory by then. Whether a tag may be moved or made is found out later.
func TestP20LargeManifests(t *testing.T) {
	url := matrixWorld(t).serve(t)
	for role, want := range map[string]int{"": 401, "stranger": 403, "reader": 403, "owner/elsewhere": 403, "creator": 100, "owner": 100} {
		for _, length := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "PUT /v2/a/secret/manifests/t HTTP/1.1\r\nHost: x\r\nX-Test: %s\r\nContent-Type: %s\r\n%s\r\nExpect: 100-continue\r\n\r\n", role, registry.TypeManifest, length)
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d", want)) {
				t.Errorf("%q, %s: got %q, %v; want %d", role, length, line, err, want)
			}
			c.Close()
		}
	}
}

// TestP20ManyLargeManifests: so many large manifests are in memory and no more. Another
// waits until one of them is done, but not for long; a usual one does not.
func TestP20ManyLargeManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		head, tail := `{"schemaVersion":2,"mediaType":"`+registry.TypeIndex+`","manifests":[],"annotations":{"a":"`, `"}}`
		begin := func(padding int) net.Conn {
			c := p.dial()
			t.Cleanup(func() { c.Close() })
			go fmt.Fprintf(c, "PUT /v2/a/manifests/t HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", registry.TypeIndex, len(head)+padding+len(tail), head)
			synctest.Wait()
			return c
		}
		end := func(c net.Conn, padding, want int) {
			t.Helper()
			go io.WriteString(c, strings.Repeat("x", padding)+tail)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if wait := res.Header.Get("Retry-After"); res.StatusCode != want || (want == 429) != (wait == "10") {
				t.Errorf("got %d, Retry-After %q; want %d", res.StatusCode, wait, want)
			}
		}
		const large = usualManifest
		var open []net.Conn
		for range largeManifests {
			open = append(open, begin(large))
		}
		end(begin(0), 0, 201)
		began := time.Now()
		end(begin(large), large, 429)
		if waited := time.Since(began); waited != largeWait {
			t.Errorf("refused after %v, want %v", waited, largeWait)
		}
		waits := begin(large)
		end(open[0], large, 201)
		open[0] = waits
		for _, c := range open {
			end(c, large, 201)
		}
	})
}

// TestP17OverlappingWrites writes to a session while another request does.
func TestP17OverlappingWrites(t *testing.T) {
	url := newWorld().serve(t)
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	d := registry.SHA256.FromString("helloworld")
	r, w := io.Pipe()
	first := make(chan answer)
	go func() { first <- do(t, "PATCH", url+loc, r) }()
	io.WriteString(w, "hello") // returns when the client has taken it
	for do(t, "GET", url+loc, nil).header.Get("Range") != "0-4" {
		// the server has not
	}
	for _, got := range []answer{
		do(t, "PATCH", url+loc, strings.NewReader("XXXXX"), "Content-Range: 5-9"),
		do(t, "PUT", url+loc+"&digest="+d.String(), strings.NewReader("XXXXX")),
	} {
		if got.want(t, 416); got.header.Get("Range") != "0-4" {
			t.Errorf("Range %s", got.header.Get("Range"))
		}
	}
	io.WriteString(w, "world")
	w.Close()
	if got := (<-first).want(t, 202); got.header.Get("Range") != "0-9" {
		t.Errorf("Range %s", got.header.Get("Range"))
	}
	do(t, "PUT", url+loc+"&digest="+d.String(), nil).want(t, 201)
}

// brokenBlobs serves content that breaks off.
type brokenBlobs struct{ registry.Blobs }

func (b brokenBlobs) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	c, err := b.Blobs.Open(ctx, s, r)
	return brokenContent{c}, err
}

type brokenContent struct{ registry.Content }

func (c brokenContent) WriteTo(w io.Writer) (int64, error) {
	n, err := io.CopyN(w, c.Content, c.Size()/2)
	return n, errors.Join(err, io.ErrUnexpectedEOF)
}

// TestP75BrokenContentBreaksTheConnection lets a blob end early, over HTTP/1 and 2.
func TestP75BrokenContentBreaksTheConnection(t *testing.T) {
	w := newWorld()
	w.deps.Blobs = brokenBlobs{w.deps.Blobs}
	s := httptest.NewUnstartedServer(nil)
	s.Config = w.gateway(t).Server()
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	two := s.Client()
	one := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: two.Transport.(*http.Transport).TLSClientConfig.RootCAs}}}
	d := registry.SHA256.FromString("0123456789")
	res, err := two.Post(s.URL+"/v2/a/blobs/uploads/?digest="+d.String(), "", strings.NewReader("0123456789"))
	if err != nil || res.StatusCode != 201 {
		t.Fatal(res, err)
	}
	for proto, client := range map[int]*http.Client{1: one, 2: two} {
		res, err := client.Get(s.URL + "/v2/a/blobs/" + d.String())
		if err != nil {
			continue // cut before the header left: fine
		}
		b, err := io.ReadAll(res.Body)
		if res.ProtoMajor != proto || err == nil {
			t.Errorf("HTTP/%d: got %q and a clean end", res.ProtoMajor, b)
		}
	}
}

// TestP25StalledStreamStopsNoOther stalls an upload of many on one HTTP/2
// connection.
func TestP25StalledStreamStopsNoOther(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = newWorld().gateway(t).Server()
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	client := s.Client()
	start := func() string {
		res, err := client.Post(s.URL+"/v2/a/blobs/uploads/", "", nil)
		if err != nil || res.ProtoMajor != 2 {
			t.Fatal(res, err)
		}
		return s.URL + res.Header.Get("Location")
	}
	r, w := io.Pipe()
	stalled, _ := http.NewRequest("PATCH", start(), r)
	done := make(chan error, 1)
	go func() { _, err := client.Do(stalled); done <- err }()
	io.WriteString(w, "first bytes")
	content := strings.Repeat("x", 3<<20)
	for range 3 {
		req, _ := http.NewRequest("PATCH", start(), strings.NewReader(content))
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 202 {
			t.Fatal(res, err)
		}
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestS112RefusedBodies: after a refusal the connection can be used again if
// what is left of the body is small, and ends otherwise.
func TestS112RefusedBodies(t *testing.T) {
	url := newWorld().serve(t)
	for size, closed := range map[int]bool{100: false, 100 << 10: true, 1 << 20: true} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			fmt.Fprintf(c, "PATCH /v2/a/blobs/uploads/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", idA, size)
			io.WriteString(c, strings.Repeat("x", size))
			io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		}()
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 404 || res.Close != closed {
			t.Fatalf("%d bytes: got %v, %v", size, res, err)
		}
		io.Copy(io.Discard, res.Body)
		if res, err = http.ReadResponse(r, nil); closed == (err == nil) {
			t.Errorf("%d bytes: after the refusal %v, %v", size, res, err)
		}
	}
}

// TestIdleConnectionCanBeUsedAgain: the write deadline of one answer must not
// hit the next, nor the "100 Continue" before it.
func TestIdleConnectionCanBeUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		loc := p.ask(t, "POST", "/v2/a/blobs/uploads/").Header.Get("Location")
		c := p.dial()
		defer c.Close()
		r := bufio.NewReader(c)
		for i, request := range []string{
			"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
			"PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
		} {
			if i > 0 {
				time.Sleep(100 * time.Second) // fake: this is a bubble
			}
			io.WriteString(c, request)
			res, err := http.ReadResponse(r, nil)
			if err == nil && res.StatusCode == 100 {
				io.WriteString(c, "x")
				res, err = http.ReadResponse(r, nil)
			}
			if err != nil || res.StatusCode/100 != 2 {
				t.Fatalf("%q: %v, %v", request, res, err)
			}
			io.Copy(io.Discard, res.Body)
		}
	})
}
