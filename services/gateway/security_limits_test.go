package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// TestS100PageSizes: a large n is cut (see TestHugeNIsCut), what is no number is
// refused, 0 is an empty list.
func TestS100PageSizes(t *testing.T) {
	url := newWorld().serve(t)
	image := pushImage(t, url, "a", "t")
	for target, empty := range map[string]string{
		"/v2/_catalog?n=":        `{"repositories":[]}`,
		"/v2/a/tags/list?n=":     `{"name":"a","tags":[]}`,
		"/v2/a/referrers/D?n=":   `"manifests":[]}`,
		"/v2/_catalog?last=x&n=": `{"repositories":[]}`,
	} {
		target = url + strings.Replace(target, "D", image.String(), 1)
		for n, want := range map[string]int{
			"2147483647": 200, "9223372036854775807": 200, "9223372036854775808": 200, "99999999999999999999999": 200, "1": 200, "0": 200,
			"-1": 400, "abc": 400, "": 400, "1.5": 400, "1e3": 400, "0x10": 400, "%201": 400, "+1": 400,
		} {
			got := do(t, "GET", target+n, nil)
			if got.status != want || n == "0" && (!strings.HasSuffix(strings.TrimSpace(got.body), empty) || got.header.Get("Link") != "") {
				t.Errorf("%s%s: got %d %s", target, n, got.status, got.body)
			}
		}
	}
}

// TestS107SlowHeaders sends a byte of a request line every 5 seconds.
func TestS107SlowHeaders(t *testing.T) {
	for name, request := range map[string]string{
		"HTTP/1":         "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ",
		"h2c preface":    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"nothing at all": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newWorld().servePipes(t)
			c := p.dial()
			began := time.Now()
			done := make(chan struct{})
			go func() {
				defer close(done)
				io.WriteString(c, request)
				for {
					time.Sleep(5 * time.Second) // fake: this is a bubble
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}()
			b, _ := io.ReadAll(c)
			if took := time.Since(began); took > 11*time.Second || strings.Contains(string(b), " 200 ") {
				t.Errorf("%s: closed after %v, with %q", name, took, b)
			}
			if res := p.ask(t, "GET", "/v2/"); res.StatusCode != 200 {
				t.Errorf("%s: a new client gets %v", name, res)
			}
			c.Close()
			<-done
		})
	}
}

// TestS107ManySlowHeaders holds 5,000 connections that way: all are closed in time,
// and a new client is served while they last.
func TestS107ManySlowHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		conns := make([]net.Conn, 5000)
		for i := range conns {
			conns[i] = p.dial()
			defer conns[i].Close()
			if _, err := io.WriteString(conns[i], "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: "); err != nil {
				t.Fatal(err)
			}
		}
		began, open := time.Now(), len(conns)
		for open > 0 {
			time.Sleep(5 * time.Second) // fake: this is a bubble
			if took := time.Since(began); took > 15*time.Second {
				t.Fatalf("%d connections are open after %v", open, took)
			}
			open = 0
			for _, c := range conns {
				if _, err := io.WriteString(c, "x"); err == nil {
					open++
				}
			}
			if res := p.ask(t, "GET", "/v2/"); res.StatusCode != 200 {
				t.Errorf("a new client gets %v", res)
			}
		}
		if took := time.Since(began); took < 10*time.Second {
			t.Errorf("closed after %v already", took)
		}
	})
}

// TestS108StalledManifest: a client that sends nothing for the idle time is
// told so, and its connection ends. For blobs see TestP19StalledUploadCanBeResumed,
// for the slow but honest ones TestP23SlowUploadHasNoTotalLimit.
func TestS108StalledManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld().servePipes(t)
		c := p.dial()
		defer c.Close()
		go fmt.Fprintf(c, "PUT /v2/a/manifests/t HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n{", registry.TypeManifest)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusRequestTimeout || !res.Close {
			t.Errorf("got %v, %v", res, err)
		}
	})
}

// smallBodies are the paths whose bodies are read by somebody else than the gateway:
// search, the identity service, and the REST API.
var smallBodies = []string{"/v2/_zot/ext/search", "/zot/auth/token", "/zot/auth/apikey", "/zot/auth/device/token", "/api/v1/access/reviews"}

// servesSmallBodies gives the world what reads them.
func (w *world) servesSmallBodies(t *testing.T) {
	w.withIdentity(t, identity.Options{}, "alice")
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	w.deps.REST, w.deps.Search = reads, reads
}

// postSmallBody begins a request with a body of 100 bytes and returns the answer.
func (p *pipes) postSmallBody(c net.Conn, path string) (*http.Response, error) {
	login, _ := strings.CutPrefix(basic("alice", "alice")[0], "Authorization: ")
	go fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n{", path, login)
	return http.ReadResponse(bufio.NewReader(c), nil)
}

// TestS108StalledSmallBodies: a client that stops in the middle of one is cut off like
// any other, and so is one that sends a byte now and then: these bodies are small, and
// some of them are read for who has not logged in.
func TestS108StalledSmallBodies(t *testing.T) {
	for _, path := range smallBodies {
		for name, every := range map[string]time.Duration{"silent": 0, "a byte every 30 seconds": 30 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.servesSmallBodies(t)
				p := w.servePipes(t)
				c := p.dial()
				began := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for every > 0 && time.Since(began) < time.Hour {
						time.Sleep(every) // fake: this is a bubble
						if _, err := io.WriteString(c, " "); err != nil {
							return
						}
					}
				}()
				time.AfterFunc(time.Hour, func() { c.Close() })
				res, err := p.postSmallBody(c, path)
				if err != nil || res.StatusCode < 400 || !res.Close {
					t.Errorf("%s, %s: got %v, %v", path, name, res, err)
				}
				if took := time.Since(began); took < 55*time.Second || took > 70*time.Second {
					t.Errorf("%s, %s: answered after %v, want a minute", path, name, took)
				}
				c.Close()
				<-done
			})
		}
	}
}

// TestS108SmallBodiesPerClient: they take places of http.uploadsPerClient, and of
// http.ratelimit.concurrent, too, and give them back.
func TestS108SmallBodiesPerClient(t *testing.T) {
	for _, path := range smallBodies {
		for name, limit := range map[string]func(*Config){
			"uploadsPerClient": func(c *Config) { c.UploadsPerClient = 1 },
			"concurrent":       func(c *Config) { c.Rates.Concurrent = 1 },
		} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				limit(&w.cfg)
				w.servesSmallBodies(t)
				p := w.servePipes(t)
				ask := func() (*http.Response, error) {
					c := p.dial()
					end := time.AfterFunc(time.Hour, func() { c.Close() })
					defer end.Stop()
					defer c.Close()
					return p.postSmallBody(c, path)
				}
				first := make(chan *http.Response, 1)
				go func() {
					res, _ := ask()
					first <- res
				}()
				synctest.Wait()
				if res, err := ask(); err != nil || res.StatusCode != http.StatusTooManyRequests {
					t.Errorf("%s, %s: one more: got %v, %v", path, name, res, err)
				}
				if res := <-first; res == nil || res.StatusCode == http.StatusTooManyRequests {
					t.Errorf("%s, %s: the first: got %v", path, name, res)
				}
				synctest.Wait()
				if res, err := ask(); err != nil || res.StatusCode == http.StatusTooManyRequests {
					t.Errorf("%s, %s: after that: got %v, %v", path, name, res, err)
				}
			})
		}
	}
}

// TestS130RepositoryNames: each is refused before anything is asked or stored.
func TestS130RepositoryNames(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	g := w.gateway(t)
	for _, name := range []string{
		"..", "../x", "a/..", "a/../b", "a/./b", ".", "a//b", "/a", "a/", ".x", "a/.x", "x.", "a..b", "a___b", "-a", "a-", "_a",
		"%2e%2e/x", "%2e%2e%2fx", "a%2fb", "a%5cb", `a\b`, "a%00", "A", "a/B", "a%20b", "a:b", "a@b", "%E2%80%A4%E2%80%A4", "%EF%BC%8E%EF%BC%8E", "\u2024", "\u00e4",
		strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a",
	} {
		for _, request := range []string{
			"GET tags/list", "PUT manifests/t", "GET manifests/t", "DELETE manifests/t", "GET blobs/" + digestA, "DELETE blobs/" + digestA,
			"POST blobs/uploads/", "PATCH blobs/uploads/" + idA, "GET referrers/" + digestA,
		} {
			method, rest, _ := strings.Cut(request, " ")
			r := newRequest(method, "/v2/x", "")
			target := "/v2/" + name + "/" + rest
			parsed, err := r.URL.Parse("http://x" + target)
			if err != nil {
				t.Fatal(err)
			}
			parsed.Path = strings.NewReplacer("%2e", ".", "%2f", "/", "%5c", `\`, "%00", "\x00", "%20", " ").Replace(target)
			parsed.RawPath = target // what a client sent, unresolved
			r.URL, r.RequestURI = parsed, target
			rec := &recorder{discard: discard{h: http.Header{}}}
			g.ServeHTTP(rec, r)
			if rec.status != 400 || !strings.Contains(rec.body.String(), `"NAME_INVALID"`) {
				t.Errorf("%s %q: got %d %s", method, target, rec.status, rec.body.String())
			}
		}
	}
	if n := guard.count(); n != 0 {
		t.Errorf("the catalog was asked %d times", n)
	}
}

// TestS139TagsDifferInCase: two tags, two images.
func TestS139TagsDifferInCase(t *testing.T) {
	url := newWorld().serve(t)
	pushImage(t, url, "a", "A")
	other := emptyImage + "\n"
	do(t, "PUT", url+"/v2/a/manifests/a", strings.NewReader(other), "Content-Type: "+registry.TypeManifest).want(t, 201)
	for tag, want := range map[string]string{"A": emptyImage, "a": other} {
		if got := do(t, "GET", url+"/v2/a/manifests/"+tag, nil).want(t, 200); got.body != want {
			t.Errorf("%s: got %q", tag, got.body)
		}
	}
	do(t, "DELETE", url+"/v2/a/manifests/A", nil).want(t, 202)
	do(t, "GET", url+"/v2/a/manifests/a", nil).want(t, 200)
	do(t, "GET", url+"/v2/a/manifests/A", nil).want(t, 404)
}

// TestS145NothingToDebug: no profiles and variables on the listener, and probes
// that tell neither version nor host.
func TestS145NothingToDebug(t *testing.T) {
	w := newWorld()
	w.cfg.Version, w.cfg.Commit, w.cfg.Host = "v9.8.7", "c0ffee", "registry.example"
	url := w.serve(t)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug/requests", "/v2/_zot/pprof/", "/v2/_zot/debug/graphql-playground", "/swagger/v2/index.html", "/statusz"} {
		do(t, "GET", url+path, nil).want(t, 404)
	}
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/readyz?writes", "/readyz?verbose"} {
		got := do(t, "GET", url+path, nil).want(t, 200)
		var text bytes.Buffer
		got.header.Write(&text)
		text.WriteString(got.body)
		for _, secret := range []string{"9.8.7", "c0ffee", "example", "127.0.0.1", "go1.", "Server:"} {
			if strings.Contains(text.String(), secret) {
				t.Errorf("%s tells %s: %s", path, secret, text.String())
			}
		}
	}
}

// TestS146LogInjection puts line breaks, control characters and quotes wherever
// a client's text gets into the log.
func TestS146LogInjection(t *testing.T) {
	const evil = "x\n{\"level\":\"info\"}\r\x1b[31m\"\\\x00\u2028\xff"
	var out logBuffer
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	w.deps.Auth = askedBy(func(*http.Request) (registry.Actor, error) { return registry.Actor{ID: evil}, nil })
	g := w.gateway(t)
	for _, target := range []string{"/v2/a/manifests/" + evil, "/v2/" + evil + "/tags/list", "/" + evil, "/v2/_catalog?last=" + evil} {
		r := newRequest("GET", "/v2/", "")
		r.URL.Path, _, _ = strings.Cut(target, "?")
		r.RequestURI = target // a server would refuse most of this, but not the log's writer
		r.RemoteAddr = evil
		r.Method = "GET"
		r.Header.Set("User-Agent", evil)
		g.ServeHTTP(&discard{h: http.Header{}}, r)
		text := out.take()
		line, rest, _ := strings.Cut(text, "\n")
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil || rest != "" {
			t.Errorf("%q: not one line: %q, %v", target, text, err)
		}
		if strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("%q: a control character in %q", target, line)
		}
		valid := strings.ToValidUTF8(evil, "\ufffd")
		user := valid
		if !strings.HasPrefix(target, "/v2/") {
			user = "" // nobody is asked who they are where there is nothing
		}
		if record["username"] != user || record["userAgent"] != valid || record["clientIP"] != valid {
			t.Errorf("%q: got %v", target, record)
		}
	}
}
