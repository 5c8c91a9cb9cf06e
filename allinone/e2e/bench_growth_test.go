//go:build bench

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	manyTags  = 10_000 // in one repository
	fewTags   = 10
	fillers   = 32 // clients that fill the store
	perSample = 20 // pushes into a small repository, so that it stays small
)

// A filledStore is a registry with one repository of manyTags tags, one of
// fewTags, and many repositories of 10 manifests each but one.
type filledStore struct {
	system    *System
	client    *benchClient
	repos     int
	manifests int
	took      time.Duration
}

// emptyJSON is the content that config and layer of all these manifests are.
var emptyJSON = []byte("{}")

// numbered is an image manifest that no other number has.
func numbered(n int) []byte {
	d := digest.FromBytes(emptyJSON)
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%[3]s",`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%[1]s","size":2},`+
		`"layers":[{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%[1]s","size":2}],`+
		`"annotations":{"org.opencontainers.image.version":"%[2]d"}}`, d, n, manifestType)
}

func repoName(n int) string { return fmt.Sprintf("fill/r%05d", n) }
func tagName(n int) string  { return fmt.Sprintf("t%05d", n) }

func fillStore(t *testing.T, b *bench) *filledStore {
	t.Helper()
	s := &filledStore{system: startBerth(t, Linked), repos: pick(b, 10_000, 2_000)}
	s.client = newBenchClient(s.system.URL(), "bench/many")
	begin := time.Now()
	if err := s.client.blob(emptyJSON); err != nil {
		t.Fatal(err)
	}
	err := inParallel(fillers, manyTags, func(i int) error {
		return s.client.manifest(tagName(i), numbered(i))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.small(t, "bench/few"); err != nil {
		t.Fatal(err)
	}
	const each = 9 // 100,000 in all
	err = inParallel(fillers, s.repos, func(i int) error {
		c := s.client.in(s.system.URL(), repoName(i))
		if err := c.mount(digest.FromBytes(emptyJSON), "bench/many"); err != nil {
			return err
		}
		for n := range each {
			if err := c.manifest(tagName(n), numbered(i*each+n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.manifests = manyTags + fewTags + each*s.repos
	s.took = time.Since(begin)
	t.Logf("pushed %d manifests into %d repositories in %v", s.manifests, s.repos+2, s.took.Round(time.Second))
	return s
}

// small fills a repository with fewTags tags.
func (s *filledStore) small(t testing.TB, repo string) error {
	t.Helper()
	c := s.client.in(s.system.URL(), repo)
	if err := c.mount(digest.FromBytes(emptyJSON), "bench/many"); err != nil {
		return err
	}
	for n := range fewTags {
		if err := c.manifest(tagName(n), numbered(n)); err != nil {
			return err
		}
	}
	return nil
}

// growth measures what must not grow with the store.
func growth(t *testing.T, b *bench) []figure {
	s := fillStore(t, b)
	figures := append([]figure{s.tagPush(t, b)}, s.manifestGet(t, b)...)
	middle := fmt.Sprintf("%s/tags/list?n=100&last=%s", s.client.base, tagName(manyTags/2))
	figures = append(figures, s.page(t, fmt.Sprintf("tags/list of 100 from the middle of %d tags", manyTags), middle, bound{}))
	middle = fmt.Sprintf("%s/v2/_catalog?n=100&last=%s", s.system.URL(), repoName(s.repos/2))
	figures = append(figures, s.page(t, fmt.Sprintf("_catalog of 100 from the middle of %d repositories", s.repos), middle, atMost(1)))
	return append(figures, s.starts(t, b))
}

// tagPush compares a push of a new tag with many and with few tags beside it,
// one client, in turn.
func (s *filledStore) tagPush(t *testing.T, b *bench) figure {
	var few, many []float64
	push := func(c *benchClient, tag string, n int) float64 {
		data := numbered(n)
		begin := time.Now()
		if err := c.manifest(tag, data); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin).Seconds() * 1e3
	}
	for block := range pick(b, 15, 10) {
		repo := fmt.Sprintf("bench/few-%d", block)
		if err := s.small(t, repo); err != nil {
			t.Fatal(err)
		}
		c := s.client.in(s.system.URL(), repo)
		for n := range perSample {
			unique := 10_000_000 + block*perSample + n
			few = append(few, push(c, fmt.Sprintf("new%d", n), unique))
			many = append(many, push(s.client, fmt.Sprintf("new%d-%d", block, n), unique+1_000_000))
		}
	}
	f, m := median(few, itself), median(many, itself)
	return figure{row: fmt.Sprintf("tag push at %d tags", manyTags), berth: millis(m), peer: fmt.Sprintf("at %d tags %s", fewTags, millis(f)),
		value: m / f, format: "%.2f ×", goal: atMost(1.2), floor: atMost(1.3)}
}

// anyTag makes wrk ask for tags of a repository, each as likely as the others:
// wrk ... URL -- PATH COUNT STEP asks for the tags 0, STEP, ... (COUNT-1)*STEP.
const anyTag = `
local path, count, step
function init(args) path, count, step = args[1], tonumber(args[2]), tonumber(args[3]); math.randomseed(1) end
function request() return wrk.format(nil, path .. string.format("t%05d", step * math.random(0, count - 1))) end
`

// manifestGet compares GETs of a few tags with many and with few tags in the
// repository, which is what must not grow; and GETs of all of many tags, which
// also shows what a miss in the caches costs.
func (s *filledStore) manifestGet(t *testing.T, b *bench) []figure {
	script := filepath.Join(t.TempDir(), "any-tag.lua")
	if err := os.WriteFile(script, []byte(anyTag), 0o644); err != nil {
		t.Fatal(err)
	}
	d := pick(b, 4*time.Second, 2*time.Second)
	get := func(repo string, tags, step int) contender {
		return contender{procs: s.system.Processes, work: func(t testing.TB) float64 {
			return wrk(t, d, s.system.URL(), script, "--", "/v2/"+repo+"/manifests/", fmt.Sprint(tags), fmt.Sprint(step))
		}}
	}
	few := get("bench/few", fewTags, 1)
	fewOfMany := get("bench/many", fewTags, manyTags/fewTags)
	many := get("bench/many", manyTags, 1)
	many.measure(t) // warms up
	got := interleave(t, 3, few, fewOfMany, many)
	line := func(i int, row string, floor bound) figure {
		return figure{row: row, berth: perRequest(got[i]), peer: fmt.Sprintf("%d of %[1]d tags %s", fewTags, perRequest(got[0])),
			value: ratio(got[i], got[0], sample.cost), format: "%.2f ×", goal: atMost(1.2), floor: floor}
	}
	return []figure{
		line(1, fmt.Sprintf("manifest GET, %d of %d tags: CPU", fewTags, manyTags), atMost(1.3)),
		line(2, fmt.Sprintf("manifest GET, all of %d tags: CPU", manyTags), bound{}),
	}
}

// page times a list request, one client.
func (s *filledStore) page(t *testing.T, row, from string, goal bound) figure {
	var took []float64
	for range 200 {
		begin := time.Now()
		header, err := s.client.send(http.MethodGet, from, nil, "", http.StatusOK)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin).Seconds()*1e3)
		if header.Get("Link") == "" {
			t.Fatalf("GET %s: no Link to the next page", from)
		}
	}
	ms := median(took, itself)
	return figure{row: row, berth: millis(ms), value: ms, format: "%.2f ms", goal: goal}
}

// starts times the start with all that is stored.
func (s *filledStore) starts(t *testing.T, b *bench) figure {
	var took []float64
	for range pick(b, 10, 5) {
		took = append(took, timeStart(t, s.system.Processes[0], s.system.URL()))
	}
	ms := median(took, itself)
	return figure{row: fmt.Sprintf("start to first 200, %d manifests", s.manifests), berth: millis(ms),
		value: ms, format: "%.0f ms", goal: atMost(100), floor: atMost(100)}
}
