package allinone

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/gateway"
)

// programSteps is how long a random program is.
const programSteps = 400

// TestG20RandomPrograms runs random programs of requests against the registry in
// memory, which is simple enough to be right, and against disk and SQLite, linked
// and over gRPC. All answers must be the same: status, headers and body.
//
// RANDOM_STEPS is the number of requests (4,000), RANDOM_SEED the first seed.
func TestG20RandomPrograms(t *testing.T) {
	steps, seed := envInt(t, "RANDOM_STEPS", 4000), envInt(t, "RANDOM_SEED", int(time.Now().UnixNano()>>20))
	t.Logf("RANDOM_SEED=%d", seed)
	done := 0
	for n := 0; done < steps; n++ {
		p := newProgram(uint64(seed + n))
		if i, diff := p.differs(t); diff != "" {
			p = p.shrunk(t, i)
			_, diff = p.differs(t)
			t.Fatalf("RANDOM_SEED=%d: answers of memory and of disk differ at the end of\n%s\n(-memory +disk):\n%s", seed+n, p, diff)
		}
		done += len(p)
	}
	t.Logf("%d requests with the same answers, three times", done)
}

// step is one request. In its target "{N}" is where upload number N is, as the
// last answer about it said.
type step struct {
	method, target, contentType, body string
	header                            [2]string
	upload                            int // which upload the answer's Location is of, 0 if of none
}

type program []step

// String shows a program to repeat by hand.
func (p program) String() string {
	var b strings.Builder
	for _, s := range p {
		fmt.Fprintf(&b, "%s %s %s %s %.200q\n", s.method, s.target, s.contentType, strings.Trim(strings.Join(s.header[:], ": "), ": "), s.body)
	}
	return b.String()
}

// answer is what of a response has to be the same.
type answer struct {
	Status int
	Header map[string]string
	Body   string
}

// runs are the systems that are compared, the one in memory first.
func runs(t *testing.T) []http.Handler {
	t.Helper()
	disk, sqlite := stores(t)
	blobs := memory.NewBlobs()
	cfg := gateway.Defaults()
	cfg.UploadsPerClient, cfg.OpenUploads = 0, 0
	var all []http.Handler
	for _, d := range []gateway.Deps{
		{Blobs: blobs, Catalog: memory.NewCatalog(memory.CatalogOptions{Reaper: blobs})},
		{Blobs: disk, Catalog: sqlite},
	} {
		g, err := gateway.New(cfg, d, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	disk, sqlite = stores(t)
	g, err := gateway.New(cfg, gateway.Deps{Blobs: rpctest.Blobs(t, disk), Catalog: rpctest.Catalog(t, sqlite)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return append(all, g)
}

// differs runs a program on all systems, and returns the first step whose answers
// are not the same.
func (p program) differs(t *testing.T) (at int, diff string) {
	t.Run("", func(t *testing.T) { // ends what it begins
		systems := runs(t)
		uploads := make([]map[int]string, len(systems))
		for i := range uploads {
			uploads[i] = make(map[int]string)
		}
		for n, s := range p {
			want := s.run(systems[0], uploads[0])
			for i, other := range systems[1:] {
				if diff = cmp.Diff(want, s.run(other, uploads[i+1])); diff != "" {
					at = n
					return
				}
			}
		}
	})
	return at, diff
}

// shrunk leaves out of a program that differs at a step what need not be in it.
func (p program) shrunk(t *testing.T, at int) program {
	p = p[:at+1]
	for size := len(p) / 2; size > 0; size /= 2 {
		for from := 0; from+size < len(p); {
			less := slices.Concat(p[:from], p[from+size:])
			if i, diff := less.differs(t); diff != "" {
				p = less[:i+1]
			} else {
				from += size
			}
		}
	}
	return p
}

var message = regexp.MustCompile(`"message":"([^"\\]|\\.)*"`)

var placeholder = regexp.MustCompile(`\{(\d+)\}`)

// run sends the request of a step to one system.
func (s step) run(h http.Handler, uploads map[int]string) (a answer) {
	missing := false
	target := placeholder.ReplaceAllStringFunc(s.target, func(m string) string {
		n, _ := strconv.Atoi(m[1 : len(m)-1]) // digits
		at, ok := uploads[n]
		missing = missing || !ok
		return at
	})
	if missing {
		return answer{Body: "no such upload"}
	}
	if i := strings.LastIndexByte(target, '?'); i >= 0 { // a second query continues the first
		target = strings.ReplaceAll(target[:i], "?", "&") + "&" + target[i+1:]
		target = strings.Replace(target, "&", "?", 1)
	}
	r := httptest.NewRequest(s.method, target, strings.NewReader(s.body))
	if s.contentType != "" {
		r.Header.Set("Content-Type", s.contentType)
	}
	if s.header[0] != "" {
		r.Header.Set(s.header[0], s.header[1])
	}
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if e, ok := recover().(error); ok && !errors.Is(e, http.ErrAbortHandler) {
				panic(e)
			}
		}()
		h.ServeHTTP(w, r)
	}()
	a = answer{Status: w.Code, Header: make(map[string]string), Body: w.Body.String()}
	if w.Code >= 400 { // errors are for programs by their code, and for people by a text
		a.Body = message.ReplaceAllString(a.Body, "")
		w.Header().Del("Content-Length")
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest", "Etag", "Link", "Oci-Filters-Applied",
		"Oci-Subject", "Oci-Tag", "Range", "Retry-After", "Www-Authenticate"} {
		if v := w.Header().Values(name); len(v) > 0 {
			a.Header[name] = strings.Join(v, "; ")
		}
	}
	if kind, boundary, ok := strings.Cut(a.Header["Content-Type"], "boundary="); ok { // a random one
		a.Header["Content-Type"], a.Body = kind, strings.ReplaceAll(a.Body, boundary, "boundary")
	}
	a.Header["Location"] = w.Header().Get("Location")
	if strings.Contains(a.Header["Location"], "/blobs/uploads/") {
		uploads[s.upload] = a.Header["Location"]
		a.Header["Location"] = "of an upload"
	}
	return a
}

// writer makes a program.
type writer struct {
	*rand.Rand
	steps     program
	uploads   int
	manifests []string // that may have been pushed
}

func newProgram(seed uint64) program {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 20))}
	for len(w.steps) < programSteps {
		kinds := []func(){w.upload, w.upload, w.chunks, w.blob, w.blob, w.put, w.put, w.put, w.manifest, w.manifest, w.list, w.remove, w.mount}
		kinds[w.IntN(len(kinds))]()
	}
	return w.steps
}

func pick[T any](w *writer, all ...T) T { return all[w.IntN(len(all))] }

func (w *writer) add(s step)   { w.steps = append(w.steps, s) }
func (w *writer) repo() string { return pick(w, "a", "b/c", "b/c", "d") }
func (w *writer) content() string {
	return pick(w, "", "x", "one", "two", strings.Repeat("large ", 5000))
}
func (w *writer) tag() string       { return pick(w, "latest", "v1", "v1.0", "V1") }
func (w *writer) digest() string    { return w.digestOf(w.content()) }
func (w *writer) reference() string { return pick(w, w.tag(), w.known(), w.known()) }

func (w *writer) digestOf(s string) string {
	alg := registry.SHA256
	if w.IntN(8) == 0 {
		alg = registry.SHA512
	}
	return string(alg.FromString(s))
}

// known returns the digest of a manifest, as a rule.
func (w *writer) known() string {
	if len(w.manifests) == 0 || w.IntN(10) == 0 {
		return w.digest()
	}
	return w.digestOf(pick(w, w.manifests...))
}

func (w *writer) upload() {
	text := w.content()
	d := w.digestOf(text)
	if w.IntN(10) == 0 {
		d = w.digest() // of something else
	}
	w.add(step{method: "POST", target: "/v2/" + w.repo() + "/blobs/uploads/?digest=" + d, body: text, contentType: "application/octet-stream"})
}

func (w *writer) mount() {
	w.uploads++
	w.add(step{method: "POST", target: "/v2/" + w.repo() + "/blobs/uploads/?mount=" + pick(w, w.digest(), w.known()) + pick(w, "", "&from="+w.repo()), upload: w.uploads})
}

// chunks is an upload in parts, with mistakes.
func (w *writer) chunks() {
	w.uploads++
	at, text := fmt.Sprintf("{%d}", w.uploads), w.content()
	w.add(step{method: "POST", target: "/v2/" + w.repo() + "/blobs/uploads/", upload: w.uploads})
	sent := 0
	for range w.IntN(4) {
		n := w.IntN(len(text) - sent + 1)
		s := step{method: "PATCH", target: at, body: text[sent : sent+n], contentType: "application/octet-stream", upload: w.uploads}
		from := sent
		switch w.IntN(6) {
		case 0:
			from += w.IntN(3) - 1
			fallthrough
		case 1:
			s.header = [2]string{"Content-Range", fmt.Sprintf("%d-%d", from, from+n-1)}
		}
		w.add(s)
		if from == sent && n > 0 {
			sent += n
		}
		if w.IntN(3) == 0 {
			w.add(step{method: "GET", target: at, upload: w.uploads})
		}
	}
	switch w.IntN(6) {
	case 0:
		w.add(step{method: "DELETE", target: at})
	case 1:
		w.add(step{method: "PUT", target: at + "?digest=" + w.digest(), body: text[sent:]})
		fallthrough
	default:
		w.add(step{method: "PUT", target: at + "?digest=" + w.digestOf(text), body: text[sent:]})
	}
	if w.IntN(4) == 0 { // a session that is over
		w.add(step{method: pick(w, "PUT", "PATCH", "GET", "DELETE"), target: at + "?digest=" + w.digestOf(text)})
	}
}

func (w *writer) blob() {
	s := step{method: pick(w, "GET", "HEAD"), target: "/v2/" + w.repo() + "/blobs/" + pick(w, w.digest(), w.digest(), w.known())}
	if w.IntN(3) == 0 {
		s.header = [2]string{"Range", pick(w, "bytes=0-0", "bytes=1-", "bytes=-2", "bytes=2-1", "bytes=0-0,2-2", "bytes=99999999-", "lines=1")}
	}
	w.add(s)
}

func (w *writer) describe(mediaType, text string) map[string]any {
	size := len(text)
	if w.IntN(40) == 0 {
		size++
	}
	return map[string]any{"mediaType": mediaType, "digest": w.digestOf(text), "size": size}
}

func (w *writer) put() {
	m := map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest}
	if len(w.manifests) > 0 && w.IntN(4) == 0 {
		m["mediaType"] = registry.TypeIndex
		list := []any{}
		for range w.IntN(3) {
			list = append(list, w.describe(registry.TypeManifest, pick(w, w.manifests...)))
		}
		m["manifests"] = list
	} else {
		m["config"] = w.describe("application/vnd.oci.image.config.v1+json", pick(w, "x", "one"))
		layers := []any{}
		for range w.IntN(3) {
			layers = append(layers, w.describe("application/vnd.oci.image.layer.v1.tar", w.content()))
		}
		m["layers"] = layers
	}
	if len(w.manifests) > 0 && w.IntN(4) == 0 {
		m["subject"] = w.describe(registry.TypeManifest, pick(w, w.manifests...))
		m["artifactType"] = pick(w, "type/one", "type/two")
		m["annotations"] = map[string]string{"k": pick(w, "1", "2")}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // of strings and numbers
	}
	text := string(b)
	w.manifests = append(w.manifests, text)
	s := step{method: "PUT", target: "/v2/" + w.repo() + "/manifests/" + pick(w, w.tag(), w.tag(), w.digestOf(text), w.known()), body: text, contentType: m["mediaType"].(string)}
	switch w.IntN(12) {
	case 0:
		s.header = [2]string{"If-None-Match", "*"}
	case 1:
		s.header = [2]string{"If-Match", `"` + w.known() + `"`}
	case 2:
		s.contentType = pick(w, registry.TypeIndex, "text/plain", "")
	}
	w.add(s)
}

func (w *writer) manifest() {
	s := step{method: pick(w, "GET", "HEAD"), target: "/v2/" + w.repo() + "/manifests/" + w.reference()}
	if w.IntN(6) == 0 {
		s.header = [2]string{"If-None-Match", `"` + w.known() + `"`}
	}
	w.add(s)
}

func (w *writer) list() {
	page := pick(w, "", "?n=1", "?n=2&last=v1", "?n=0", "?last=b")
	w.add(step{method: "GET", target: pick(w, "/v2/_catalog"+page, "/v2/"+w.repo()+"/tags/list"+page,
		"/v2/"+w.repo()+"/referrers/"+w.known()+pick(w, "", "?artifactType=type/one"))})
}

func (w *writer) remove() {
	switch w.IntN(3) {
	case 0:
		w.add(step{method: "DELETE", target: "/v2/" + w.repo() + "/blobs/" + pick(w, w.digest(), w.known())})
	default:
		s := step{method: "DELETE", target: "/v2/" + w.repo() + "/manifests/" + w.reference()}
		if w.IntN(6) == 0 {
			s.header = [2]string{"If-Match", `"` + w.known() + `"`}
		}
		w.add(s)
	}
}
