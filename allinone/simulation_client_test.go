package allinone

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// simClient owns some tags, so it knows what they have to show.
type simClient struct {
	s        *simSystem
	rand     *rand.Rand
	name     string
	seed     uint64
	contents [][]byte           // that all clients push
	tags     map[string]*simTag // by REPO/manifests/TAG
	made     int

	requests, answered, acknowledged int
	trace                            hash.Hash64
}

// simTag is what a tag may show.
type simTag struct {
	image *simImage               // nil for none
	maybe map[*simImage]time.Time // what else it may show, as it was asked for and not answered then
}

// simImage is a manifest.
type simImage struct {
	manifest []byte
	digest   registry.Digest
	blobs    [][]byte
}

func newSimClient(s *simSystem, i int, seed uint64) *simClient {
	c := &simClient{s: s, rand: rand.New(rand.NewPCG(seed, uint64(i))), name: fmt.Sprint(i), seed: seed, tags: map[string]*simTag{}, trace: fnv.New64a()}
	for n := range 12 {
		c.contents = append(c.contents, fmt.Appendf(nil, "%d %s", n, make([]byte, n*n*300)))
	}
	return c
}

// operate does one thing at random.
func (c *simClient) operate() {
	repo := c.repo(c.rand.IntN(2))
	tag := fmt.Sprintf("%s/manifests/v%d", repo, c.rand.IntN(3))
	switch n := c.rand.IntN(10); {
	case n < 4:
		c.push(repo, tag)
	case n < 5:
		c.move(repo, tag)
	case n < 6:
		c.remove(tag)
	case n < 7:
		c.removeManifest(repo, tag)
	default:
		c.pull(tag)
	}
}

// repo returns one of the client's repositories.
func (c *simClient) repo(n int) string { return fmt.Sprintf("team%s/app%d", c.name, n) }

// push pushes an image of contents that all have.
func (c *simClient) push(repo, tag string) {
	m := &simImage{}
	var layers []string
	for range 1 + c.rand.IntN(3) {
		b := c.contents[c.rand.IntN(len(c.contents))]
		if !c.blob(repo, b) {
			return
		}
		m.blobs = append(m.blobs, b)
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, registry.SHA256.FromBytes(b), len(b)))
	}
	c.made++
	m.manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s],"annotations":{"n":"%s/%d"}}`,
		registry.TypeManifest, strings.Replace(layers[0], "layer.v1.tar", "config.v1+json", 1), strings.Join(layers, ","), c.name, c.made)
	m.digest = registry.SHA256.FromBytes(m.manifest)
	c.put(tag, m)
}

// put sets a tag to an image.
func (c *simClient) put(tag string, m *simImage) {
	status := c.set([]string{tag}, m, func() int {
		return c.do(http.MethodPut, tag, registry.TypeManifest, bytes.NewReader(m.manifest)).Code
	})
	if status != http.StatusCreated {
		c.trouble("PUT "+tag, status)
	}
}

// set notes what tags may show while something is done to them, and what they show
// if it succeeded.
func (c *simClient) set(tags []string, m *simImage, do func() int) (status int) {
	for _, tag := range tags {
		if c.tags[tag] == nil {
			c.tags[tag] = &simTag{maybe: map[*simImage]time.Time{}}
		}
	}
	status = do()
	for _, tag := range tags {
		x := c.tags[tag]
		switch {
		case status == http.StatusCreated || status == http.StatusAccepted:
			c.acknowledged++
			x.image = m
			delete(x.maybe, m)
		case status == 0 || status >= 500:
			x.maybe[m] = time.Now()
		}
	}
	return status
}

// move lets a tag show what another of the repository does.
func (c *simClient) move(repo, tag string) {
	for _, other := range slices.Sorted(maps.Keys(c.tags)) {
		if x := c.tags[other]; other != tag && strings.HasPrefix(other, repo+"/") && x.image != nil && len(x.maybe) == 0 {
			c.put(tag, x.image)
			return
		}
	}
}

func (c *simClient) remove(tag string) {
	if x := c.tags[tag]; x == nil || x.image == nil {
		return
	}
	status := c.set([]string{tag}, nil, func() int { return c.do(http.MethodDelete, tag, "", nil).Code })
	if status == http.StatusNotFound && len(c.tags[tag].maybe) > 0 {
		return // what was not answered has happened
	}
	if status != http.StatusAccepted {
		c.trouble("DELETE "+tag, status)
	}
}

// removeManifest deletes what a tag shows, and so all tags of it.
func (c *simClient) removeManifest(repo, tag string) {
	x := c.tags[tag]
	if x == nil || x.image == nil {
		return
	}
	var all []string
	settled := true
	for _, other := range slices.Sorted(maps.Keys(c.tags)) {
		y := c.tags[other]
		if !strings.HasPrefix(other, repo+"/") {
			continue
		}
		settled = settled && len(y.maybe) == 0
		if y.image == x.image {
			all = append(all, other)
		}
	}
	if !settled { // nobody knows what goes with it
		return
	}
	status := c.set(all, nil, func() int {
		return c.do(http.MethodDelete, repo+"/manifests/"+string(x.image.digest), "", nil).Code
	})
	if status != http.StatusAccepted {
		c.trouble("DELETE manifest of "+tag, status)
	}
}

// pullAll reads all tags.
func (c *simClient) pullAll() {
	for _, tag := range slices.Sorted(maps.Keys(c.tags)) {
		for n := 0; !c.pull(tag); n++ {
			if n == 10 {
				c.s.t.Errorf("SIM_SEED=%d: %s can't be pulled without any faults", c.seed, tag)
				return
			}
		}
	}
}

// pull reads what a tag shows, and reports whether it was answered.
func (c *simClient) pull(tag string) bool {
	x := c.tags[tag]
	if x == nil {
		return true
	}
	got := c.do(http.MethodGet, tag, "", nil)
	switch {
	case got.Code == 0 || got.Code >= 500:
		return false
	case got.Code != http.StatusOK && got.Code != http.StatusNotFound:
		c.trouble("GET "+tag, got.Code)
		return true
	}
	shows := x.image
	if !shown(got, shows) {
		found := false
		for m := range x.maybe {
			if shown(got, m) {
				shows, found = m, true
			}
		}
		if !found {
			c.s.t.Errorf("SIM_SEED=%d, %s: %s is %d %.200s, acknowledged is %s, and perhaps %d others",
				c.seed, time.Now().Format(time.TimeOnly), tag, got.Code, got.Body, describe(x.image), len(x.maybe))
			return true
		}
	}
	x.image = shows
	for m, since := range x.maybe {
		if time.Since(since) > simLate { // it has happened by now, or never will
			delete(x.maybe, m)
		}
	}
	if shows == nil {
		return true
	}
	repo, _, _ := strings.Cut(tag, "/manifests/")
	for _, b := range shows.blobs {
		blob := c.do(http.MethodGet, repo+"/blobs/"+string(registry.SHA256.FromBytes(b)), "", nil)
		switch {
		case blob.Code == 0 || blob.Code >= 500:
			return false
		case blob.Code == http.StatusNotFound && len(x.maybe) > 0: // the tag has gone meanwhile
		case blob.Code != http.StatusOK || !bytes.Equal(blob.Body.Bytes(), b):
			c.s.t.Errorf("SIM_SEED=%d, %s: a blob of %s is %d with %d bytes", c.seed, time.Now().Format(time.TimeOnly), tag, blob.Code, blob.Body.Len())
		}
	}
	return true
}

// shown reports whether an answer shows an image, or that there is none.
func shown(got *httptest.ResponseRecorder, m *simImage) bool {
	if m == nil {
		return got.Code == http.StatusNotFound
	}
	return got.Code == http.StatusOK && bytes.Equal(got.Body.Bytes(), m.manifest)
}

func describe(m *simImage) string {
	if m == nil {
		return "none"
	}
	return string(m.digest)
}

// trouble fails the test unless the system may answer so while it is in trouble.
func (c *simClient) trouble(what string, status int) {
	if status != 0 && status < 500 {
		c.s.t.Errorf("SIM_SEED=%d, %s: %s: %d", c.seed, time.Now().Format(time.TimeOnly), what, status)
	}
}

// blob makes a blob known in a repository, in one of the ways in which clients do.
func (c *simClient) blob(repo string, b []byte) bool {
	d := string(registry.SHA256.FromBytes(b))
	switch c.rand.IntN(4) {
	case 0:
		if c.do(http.MethodHead, repo+"/blobs/"+d, "", nil).Code == http.StatusOK {
			return true
		}
	case 1:
		from := fmt.Sprintf("team%d/app%d", c.rand.IntN(4), c.rand.IntN(2))
		if c.do(http.MethodPost, repo+"/blobs/uploads/?mount="+d+"&from="+from, "", nil).Code == http.StatusCreated {
			return true
		}
	case 2:
		return c.chunks(repo, b, d)
	}
	return c.do(http.MethodPost, repo+"/blobs/uploads/?digest="+d, "application/octet-stream", c.body(b)).Code == http.StatusCreated
}

// chunks pushes a blob in chunks, and goes on where an upload is after trouble. The
// range of an upload is "0-0" for nothing and for one byte: the chunk that comes after
// such an answer says where it belongs, and is refused if it is the one byte.
func (c *simClient) chunks(repo string, b []byte, d string) bool {
	started := c.do(http.MethodPost, repo+"/blobs/uploads/", "", nil)
	at := started.Header().Get("Location")
	if started.Code != http.StatusAccepted || at == "" {
		return false
	}
	sent, most, unsure := 0, 0, false
	for range 12 {
		if sent == len(b) {
			break
		}
		n := min(1+c.rand.IntN(len(b)), len(b)-sent)
		most = max(most, sent+n)
		var place []string
		if unsure {
			place = []string{fmt.Sprintf("0-%d", n-1)}
		}
		got := c.do(http.MethodPatch, at, "application/octet-stream", c.body(b[sent:sent+n]), place...)
		switch {
		case got.Code == http.StatusAccepted:
			sent, unsure = sent+n, false
			at = got.Header().Get("Location")
			continue
		case got.Code == http.StatusRequestedRangeNotSatisfiable && unsure:
			sent, unsure = 1, false
			continue
		}
		got = c.do(http.MethodGet, at, "", nil)
		if got.Code != http.StatusNoContent {
			return false
		}
		var from, to int
		if _, err := fmt.Sscanf(got.Header().Get("Range"), "%d-%d", &from, &to); err != nil {
			return false
		}
		if at = got.Header().Get("Location"); to > 0 {
			to++
		}
		if to > most {
			c.s.t.Errorf("SIM_SEED=%d: an upload has %d bytes of %d that were sent", c.seed, to, most)
			return false
		}
		sent, unsure = to, to == 0
	}
	if sent < len(b) {
		return false
	}
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	return c.do(http.MethodPut, at+sep+"digest="+d, "", nil).Code == http.StatusCreated
}

// body returns a body that comes slowly, and may break off.
func (c *simClient) body(b []byte) io.Reader {
	all := []io.Reader{}
	for len(b) > 0 {
		n := min(1+c.rand.IntN(16<<10), len(b))
		all = append(all, simPause(c.rand.Int64N(int64(time.Second))), bytes.NewReader(b[:n]))
		b = b[n:]
		if c.rand.IntN(100) == 0 {
			all = append(all, simBreak{})
		}
	}
	return io.MultiReader(all...)
}

// simPause is a body without bytes that takes its time.
type simPause time.Duration

func (p simPause) Read([]byte) (int, error) {
	time.Sleep(time.Duration(p))
	return 0, io.EOF
}

// simBreak is the end of a body that breaks off.
type simBreak struct{}

func (simBreak) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// do makes a request. Its Code is 0 if there was no answer.
func (c *simClient) do(method, target, contentType string, body io.Reader, contentRange ...string) *httptest.ResponseRecorder {
	c.requests++
	w := httptest.NewRecorder()
	front := c.s.front.Load()
	if !strings.HasPrefix(target, "/") {
		target = "/v2/" + target
	}
	ctx, cancel := context.WithTimeout(c.s.t.Context(), 2*time.Minute)
	defer cancel()
	aborted := front == nil
	if front != nil {
		r := httptest.NewRequestWithContext(ctx, method, target, body)
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		r.Header["Content-Range"] = contentRange
		func() {
			defer func() {
				if e := recover(); e != nil && e != http.ErrAbortHandler {
					panic(e)
				} else if e != nil {
					aborted = true
				}
			}()
			front.ServeHTTP(w, r)
		}()
	}
	// A gateway that was killed meanwhile has not answered.
	if aborted || ctx.Err() != nil || front != c.s.front.Load() {
		w = httptest.NewRecorder()
		w.Code = 0
	} else {
		c.answered++
	}
	fmt.Fprintln(c.trace, time.Now().UnixNano(), method, w.Code)
	return w
}
