//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/opencontainers/go-digest"
)

const (
	linearClients = 16
	linearTags    = 8
	linearOps     = 20 // of each client in a history
	linearCheck   = time.Minute
)

// TestG18Linearizable lets 16 clients put, get, delete and swap (If-Match) 8 tags
// through two gateways, kills one process in the middle, and looks for an order of
// all operations that explains every answer. Each history has tags of its own.
//
// HISTORIES is their number (10), KILL_SEED the seed. The run is void, and fails,
// if fewer than a fifth of the kills hit an open operation.
func TestG18Linearizable(t *testing.T) {
	histories := envInt(t, "HISTORIES", 10)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d histories, KILL_SEED=%d", histories, seed)
	s := Start(t, Options{Topology: Replicas, Edit: func(c map[string]any) {
		c["log"] = map[string]any{"level": "error"}
	}})
	base := s.URL() + "/v2/kill/tags"
	setup := &killClient{base: base, http: &http.Client{Timeout: time.Minute}}
	if err := setup.blob([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	victims := []string{"metadata", "gateway", "metadata", "blobstore"}
	hit, ops, lost := 0, 0, 0
	for n := range histories {
		procs := s.of(victims[n%len(victims)])
		h := &linearHistory{base: base, round: n, begin: time.Now()}
		h.run(t, rnd, procs[rnd.IntN(len(procs))])
		ops += len(h.ops)
		for _, op := range h.ops {
			if op.Output.(tagAnswer).lost {
				lost++
			}
		}
		if h.hit {
			hit++
		}
		result, info := porcupine.CheckOperationsVerbose(tagModel, h.ops, linearCheck)
		if result != porcupine.Ok {
			file := t.ArtifactDir() + "/history.html"
			t.Fatalf("history %d (KILL_SEED=%d) is %s: %s (%v)", n+1, seed, result, file, porcupine.VisualizePath(tagModel, info, file))
		}
	}
	t.Logf("%d operations, %d without an answer, %d of %d kills hit open ones; 0 illegal histories", ops, lost, hit, histories)
	if hit*5 < histories {
		t.Errorf("void: only %d of %d kills hit an open operation", hit, histories)
	}
}

// linearHistory is one history.
type linearHistory struct {
	base  string
	round int
	begin time.Time

	open atomic.Int32 // operations in progress
	done atomic.Int32
	hit  bool // the kill came while one was open

	mu  sync.Mutex
	ops []porcupine.Operation
}

// run lets the clients work and kills p when a third of the work is done; p is
// back at the end.
func (h *linearHistory) run(t *testing.T, rnd *mrand.Rand, p *Process) {
	t.Helper()
	var working sync.WaitGroup
	errs := make([]error, linearClients)
	for i := range linearClients {
		r := mrand.New(mrand.NewPCG(rnd.Uint64(), uint64(i)))
		working.Go(func() { errs[i] = h.client(i, r) })
	}
	for h.done.Load() < linearClients*linearOps/3 {
		<-time.After(time.Millisecond)
	}
	h.hit = h.open.Load() > 0
	p.Kill(t)
	working.Wait()
	p.Restart(t)
	awaitHealth(t, p)
	// What every tag is in the end.
	if err := h.reads(linearClients); err != nil {
		t.Fatal(err)
	}
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func (h *linearHistory) reads(client int) error {
	c := h.http()
	for i := range linearTags {
		if _, err := h.do(c, client, tagCall{tag: h.tag(i), kind: "get"}); err != nil {
			return err
		}
	}
	return nil
}

func (h *linearHistory) tag(i int) string { return fmt.Sprintf("t%d-%d", h.round, i) }

func (h *linearHistory) http() *killClient {
	return &killClient{base: h.base, http: &http.Client{Timeout: time.Minute}}
}

// client does operations at random.
func (h *linearHistory) client(id int, r *mrand.Rand) error {
	c := h.http()
	seen := map[string]string{} // what it believes of each tag
	for n := range linearOps {
		call := tagCall{tag: h.tag(r.IntN(linearTags))}
		call.new = manifestOf(h.round, id, n)
		switch k := r.IntN(10); {
		case k < 4:
			call.kind, call.new = "get", ""
		case k < 7:
			call.kind = "put"
		case k < 8:
			call.kind, call.new = "delete", ""
		default:
			call.kind, call.old = "swap", seen[call.tag]
			if call.old == "" {
				call.kind, call.new = "get", ""
			}
		}
		answer, err := h.do(c, id, call)
		if err != nil {
			return err
		}
		switch {
		case call.kind == "get" && !answer.lost:
			seen[call.tag] = answer.value
		case call.new != "":
			seen[call.tag] = call.new
		}
	}
	return nil
}

// manifestOf returns the digest of the manifest that a client pushes; manifests
// keeps the bytes.
func manifestOf(round, client, n int) string {
	m := imageOf([]byte("{}"), fmt.Sprintf("%d %d %d", round, client, n))
	d := digest.FromBytes(m).String()
	manifests.Store(d, m)
	return d
}

var manifests sync.Map

// do makes a call and notes it. An error is an answer that no registry gives.
func (h *linearHistory) do(c *killClient, client int, call tagCall) (tagAnswer, error) {
	h.open.Add(1)
	began := time.Since(h.begin)
	answer, err := ask(c, call)
	ended := time.Since(h.begin).Nanoseconds()
	h.open.Add(-1)
	h.done.Add(1)
	if errors.Is(err, errAnswer) && !errors.Is(err, errServer) {
		return answer, err
	}
	if err != nil {
		answer = tagAnswer{lost: true}
		if call.kind == "get" {
			return answer, nil // which says nothing
		}
		ended = math.MaxInt64 // when it happens, if it does, nobody knows
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: call, Output: answer, Call: began.Nanoseconds(), Return: ended})
	return answer, nil
}

func ask(c *killClient, call tagCall) (tagAnswer, error) {
	url := c.base + "/manifests/" + call.tag
	if call.kind == "get" {
		resp, err := c.do(http.MethodHead, url, nil, 0, map[string]string{"Accept": "*/*"})
		if err != nil {
			return tagAnswer{}, err
		}
		if resp.StatusCode == http.StatusNotFound {
			return tagAnswer{}, nil
		}
		if resp.StatusCode != http.StatusOK {
			return tagAnswer{}, fmt.Errorf("%w: HEAD %s: %s", errAnswer, url, resp.Status)
		}
		return tagAnswer{value: resp.Header.Get("Docker-Content-Digest")}, nil
	}
	method, header, body, good, bad := http.MethodPut, map[string]string{"Content-Type": imageManifest}, []byte(nil), http.StatusCreated, 0
	if call.new != "" {
		m, _ := manifests.Load(call.new)
		body = m.([]byte)
	}
	switch call.kind {
	case "delete":
		method, good, bad = http.MethodDelete, http.StatusAccepted, http.StatusNotFound
	case "swap":
		header["If-Match"], bad = `"`+call.old+`"`, http.StatusPreconditionFailed
	}
	resp, err := c.do(method, url, body, 0, header)
	if err != nil {
		return tagAnswer{}, err
	}
	if resp.StatusCode != good && resp.StatusCode != bad {
		return tagAnswer{}, fmt.Errorf("%w: %s %s: %s", errAnswer, method, url, resp.Status)
	}
	return tagAnswer{found: resp.StatusCode == good}, nil
}
