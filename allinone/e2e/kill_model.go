package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// killModel is what the clients of the kill test were told, and so what the
// registry must show after a crash. A name has a value that was acknowledged,
// and perhaps others that were asked for without an answer.
type killModel struct {
	kinds    []string    // of operations that must be open now and then when a kill comes
	collects bool        // what has no tag may go at any time
	enough   atomic.Bool // clients end after the operation they are at

	mu    sync.Mutex // guards the fields below
	names map[string]*expected
	stats map[string]*killStats // by kind of operation
	open  map[string]int        // operations in progress, by kind
}

// expected is what a GET of a manifest URL may answer: one of the values, ""
// for 404.
type expected struct {
	acked string
	maybe []string // asked for, and not answered yet
	lost  []string // asked for, and never answered: it may happen late, even after what was acknowledged since
	fresh bool     // touched since the last check
}

// killStats counts operations of one kind.
type killStats struct {
	started, acked int
	hit            int // kills while one was open
	round          int // started since the last kill
	roundAcked     int // acknowledged since the last kill
}

// newKillModel returns a model of clients that do operations of these kinds: of
// [killKinds], if none is named.
func newKillModel(kinds ...string) *killModel {
	if kinds == nil {
		kinds = slices.Sorted(maps.Keys(killKinds))
	}
	return &killModel{kinds: kinds, names: map[string]*expected{}, stats: map[string]*killStats{}, open: map[string]int{}}
}

// begin notes that an operation of kind will set url to value ("" deletes), and
// returns what to call with its outcome: acknowledged or without an answer.
func (m *killModel) begin(kind string, values map[string]string) func(acked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stats[kind] == nil {
		m.stats[kind] = &killStats{}
	}
	m.stats[kind].started++
	m.stats[kind].round++
	m.open[kind]++
	for url, v := range values {
		e := m.names[url]
		if e == nil {
			e = &expected{}
			m.names[url] = e
		}
		e.maybe = append(e.maybe, v)
		e.fresh = true
	}
	return func(acked bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.open[kind]--
		if acked {
			m.stats[kind].acked++
			m.stats[kind].roundAcked++
		}
		for url, v := range values {
			// Each name has one writer at a time, so nothing else is pending.
			e := m.names[url]
			e.maybe = nil
			if acked {
				e.acked = v
			} else {
				e.lost = append(e.lost, v)
			}
		}
	}
}

// loaded reports whether an operation of each kind has begun since the last kill.
func (m *killModel) loaded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range m.kinds {
		if s := m.stats[kind]; s == nil || s.round == 0 {
			return false
		}
	}
	return true
}

// leastHitIsOpen reports whether an operation is open of the kind that was hit least.
func (m *killModel) leastHitIsOpen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	least := m.kinds[0]
	for _, kind := range m.kinds {
		if m.stats[kind].hit < m.stats[least].hit {
			least = kind
		}
	}
	return m.open[least] > 0
}

// waiting returns the kinds of which nothing has been acknowledged since the
// last kill.
func (m *killModel) waiting() (kinds []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range m.kinds {
		if s := m.stats[kind]; s == nil || s.roundAcked == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// again forgets what has been acknowledged since the last kill.
func (m *killModel) again() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stats {
		s.roundAcked = 0
	}
}

// known notes that url shows value now, if nothing is known of it.
func (m *killModel) known(url, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[url] == nil {
		m.names[url] = &expected{acked: value}
	}
}

// killed notes which kinds of operation the kill interrupts.
func (m *killModel) killed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for kind, s := range m.stats {
		s.round, s.roundAcked = 0, 0
		if m.open[kind] > 0 {
			s.hit++
		}
	}
}

// check compares what was touched since the last check with the registry. What
// it finds is from then on the acknowledged value: a crash decides once.
func (m *killModel) check(client *http.Client) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bad []string
	for url, e := range m.names {
		if !e.fresh {
			continue
		}
		got, err := manifestAt(client, url)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", url, err))
			continue
		}
		ok := got == e.acked
		for _, v := range append(e.lost, e.maybe...) {
			ok = ok || got == v
		}
		if m.collects && got == "" && strings.Contains(url, "/manifests/sha256:") {
			ok = true
		}
		if !ok {
			bad = append(bad, fmt.Sprintf("%s: is %q, acknowledged was %q, without an answer %q %q", url, got, e.acked, e.lost, e.maybe))
		}
		*e = expected{acked: got}
	}
	return bad
}

// touchAll makes the next check look at every name there is.
func (m *killModel) touchAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.names {
		e.fresh = true
	}
}

// manifestAt returns the digest of the manifest at url after reading it and all
// it refers to, "" if there is none.
func manifestAt(client *http.Client, url string) (string, error) {
	body, status, err := fetch(client, url)
	if err != nil || status == http.StatusNotFound {
		return "", err
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("answered %d", status)
	}
	base, _, _ := strings.Cut(url, "/manifests/")
	for _, d := range referenced(body) {
		blob, status, err := fetch(client, base+"/blobs/"+d)
		switch {
		case err != nil:
			return "", err
		case status != http.StatusOK:
			return "", fmt.Errorf("blob %s answered %d", d, status)
		case digest.FromBytes(blob).String() != d:
			return "", fmt.Errorf("blob %s has other bytes", d)
		}
	}
	return digest.FromBytes(body).String(), nil
}

// referenced returns all digests in a manifest.
func referenced(manifest []byte) []string {
	var all []string
	for part := range bytes.SplitSeq(manifest, []byte(`"`)) {
		if d, err := digest.Parse(string(part)); err == nil {
			all = append(all, d.String())
		}
	}
	return all
}

func fetch(client *http.Client, url string) (body []byte, status int, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "*/*")
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.StatusCode, err
}
