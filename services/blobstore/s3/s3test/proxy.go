package s3test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/config"
)

// Proxy stands before a server, counts requests, and makes some of them fail.
type Proxy struct {
	URL string

	server *Server
	late   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	counts map[string]int
	faults map[Fault]int
	rand   *rand.Rand
	rate   float64 // how many requests fail
}

// Fault is something that goes wrong with one request.
type Fault string

// The faults.
const (
	InternalError Fault = "500"
	SlowDown      Fault = "503 SlowDown"
	FailedAfter   Fault = "500 after it was done"
	LostAnswer    Fault = "done, and the answer lost"
	Silence       Fault = "no answer"
	ResetBody     Fault = "body reset"
	ShortBody     Fault = "body short, and its length says so"
	EmptyBody     Fault = "200 with an empty body"
	Twice         Fault = "done twice"
	Late          Fault = "503, and done later"
)

var allFaults = []Fault{InternalError, SlowDown, FailedAfter, LostAnswer, Silence, ResetBody, ShortBody, EmptyBody, Twice, Late}

// NewProxy returns a proxy for as long as the test. It lets all requests pass
// until Fail is called.
func NewProxy(t testing.TB, s *Server) *Proxy {
	p := &Proxy{server: s, counts: map[string]int{}, faults: map[Fault]int{}}
	srv := httptest.NewServer(p)
	p.URL = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		p.late.Wait()
	})
	return p
}

// Driver is [Server.Driver] through the proxy.
func (p *Proxy) Driver(root string) config.Driver {
	d := p.server.Driver(root)
	d["regionendpoint"] = p.URL
	return d
}

// Fail makes that share of requests fail from now on, always the same for the
// same seed and order of requests.
func (p *Proxy) Fail(rate float64, seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.rand = rate, rand.New(rand.NewPCG(seed, 1))
}

// Faults returns how often each fault was made, as text and in all.
func (p *Proxy) Faults() (text string, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var parts []string
	for _, f := range allFaults {
		parts = append(parts, fmt.Sprintf("%s: %d", f, p.faults[f]))
		all += p.faults[f]
	}
	return strings.Join(parts, ", "), all
}

// Counted returns how many requests of each kind came since the last call.
func (p *Proxy) Counted() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer clear(p.counts)
	return maps.Clone(p.counts)
}

// kind names a request: the method, and what kind of key it is about.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case q.Has("list-type"):
		return "LIST"
	case q.Has("uploads"):
		return r.Method + " uploads"
	case q.Has("partNumber"):
		return r.Method + " part"
	case q.Has("uploadId"):
		return r.Method + " multipart"
	}
	what := "bucket"
	for _, w := range []string{"blobs", "data", "names", "sums", "uploads", "probe"} {
		if strings.Contains(r.URL.Path, "/.berth/"+w+"/") {
			what = w
		}
	}
	return r.Method + " " + what
}

// choose returns the fault of a request, "" for none, and a number below n.
func (p *Proxy) choose(r *http.Request) (Fault, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[kind(r)]++
	if p.rate == 0 || p.rand.Float64() >= p.rate {
		return "", 0
	}
	f := allFaults[p.rand.IntN(len(allFaults))]
	if r.Method != http.MethodGet && slices.Contains([]Fault{ResetBody, ShortBody, EmptyBody}, f) {
		f = LostAnswer
	}
	p.faults[f]++
	return f, p.rand.IntN(1 << 20)
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, random := p.choose(r)
	if fault == "" {
		p.pass(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	again := func() (*http.Response, error) {
		return p.forward(r.Context(), r, bytes.NewReader(body), int64(len(body)))
	}
	switch fault {
	case InternalError:
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	case SlowDown:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	case Silence:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Late:
		p.later(r, body, time.Duration(random%300)*time.Millisecond)
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	resp, err := again()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || fault == LostAnswer {
		panic(http.ErrAbortHandler)
	}
	if fault == FailedAfter {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	if fault == Twice {
		if second, err := again(); err == nil {
			second.Body.Close()
		}
	}
	if resp.StatusCode >= 300 {
		fault = Twice // a body that says what failed is not of interest
	}
	maps.Copy(w.Header(), resp.Header)
	kept := random % max(len(answer), 1)
	switch fault {
	case EmptyBody:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	case ShortBody:
		w.Header().Set("Content-Length", fmt.Sprint(kept))
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer[:kept])
	case ResetBody:
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer[:kept])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer)
	}
}

// pass passes a request on and the answer back.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) {
	resp, err := p.forward(r.Context(), r, r.Body, r.ContentLength)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, resp.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// later passes a request on when nobody expects it any more.
func (p *Proxy) later(r *http.Request, body []byte, wait time.Duration) {
	ctx := context.WithoutCancel(r.Context())
	p.late.Go(func() {
		time.Sleep(wait)
		if resp, err := p.forward(ctx, r, bytes.NewReader(body), int64(len(body))); err == nil {
			resp.Body.Close()
		}
	})
}

// forward sends a request to the server. The Host stays: it is signed.
func (p *Proxy) forward(ctx context.Context, r *http.Request, body io.Reader, size int64) (*http.Response, error) {
	out, err := http.NewRequestWithContext(ctx, r.Method, p.server.URL+r.URL.RequestURI(), body)
	if err != nil {
		return nil, err
	}
	out.Header, out.Host, out.ContentLength = r.Header.Clone(), r.Host, size
	if size == 0 {
		out.Body = http.NoBody
	}
	return http.DefaultTransport.RoundTrip(out)
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>on purpose</Message></Error>`, code)
}
