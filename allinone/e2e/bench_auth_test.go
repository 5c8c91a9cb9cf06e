//go:build bench

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	benchRules = 1000 // of access control
	benchWrong = 200  // clients with a wrong password
	pullEvery  = 5 * time.Millisecond
)

// startGuarded starts Berth with a password file, the token service and 1,000 access
// rules. bob may read every other team's repositories, anybody those of open, alice all.
func startGuarded(t *testing.T) *System {
	t.Helper()
	users := filepath.Join(t.TempDir(), "htpasswd")
	var lines strings.Builder
	for _, user := range []string{"alice", "bob"} {
		out, err := exec.Command("htpasswd", "-nbB", "-C", "10", user, user).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(strings.TrimSpace(string(out)) + "\n")
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := map[string]any{"open/**": map[string]any{"anonymousPolicy": []string{"read"}, "defaultPolicy": []string{"read"}}}
	for i := range benchRules - 1 {
		rules[fmt.Sprintf("team%d/**", i)] = map[string]any{"policies": []any{map[string]any{"users": []string{[]string{"bob", "carol"}[i%2]}, "actions": []string{"read"}}}}
	}
	return Start(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		quiet(config)
		h, ok := config["http"].(map[string]any)
		if !ok {
			return
		}
		h["auth"] = map[string]any{
			"htpasswd": map[string]any{"path": users}, "failDelay": 0,
			"token": map[string]any{"realm": fmt.Sprintf("http://127.0.0.1:%v/zot/auth/token", h["port"])},
		}
		h["accessControl"] = map[string]any{
			"repositories": rules,
			"adminPolicy":  map[string]any{"users": []string{"alice"}, "actions": []string{"read", "create", "update", "delete"}},
		}
	}})
}

// asUser adds credentials to requests.
type asUser struct {
	header string
	next   http.RoundTripper
}

func (a asUser) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if a.header != "" {
		r.Header.Set("Authorization", a.header)
	}
	return a.next.RoundTrip(r)
}

// guarded is a client of a user, by password.
func guarded(s *System, repo, user, password string) *benchClient {
	c := newBenchClient(s.URL(), repo)
	r, _ := http.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth(user, password)
	transport := c.http.Transport.(*http.Transport)
	transport.MaxIdleConnsPerHost = benchWrong
	c.http.Transport = asUser{r.Header.Get("Authorization"), transport}
	return c
}

// benchToken returns what goes behind "Authorization: " with a user's token.
func benchToken(t *testing.T, s *System, user, scope string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.URL()+"/zot/auth/token?"+url.Values{"service": {s.Addr}, "scope": {scope}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, user)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("a token: %s, %v", resp.Status, err)
	}
	return "Bearer " + got.Token
}

// authentication measures whole requests of those who show a token: beside those of
// nobody, while others guess passwords, and for lists that rules cut.
func authentication(t *testing.T, b *bench) []figure {
	if b.short {
		return nil // two minutes
	}
	s := startGuarded(t)
	alice := guarded(s, "open/image", "alice", "alice")
	layer, config, manifest := smallImage(0, 0)
	if err := alice.image("v1", layer, config, manifest); err != nil {
		t.Fatal(err)
	}
	const tag = "/v2/open/image/manifests/v1"
	token := benchToken(t, s, "bob", "repository:open/image:pull")

	d := time.Second // for warming up
	script := filepath.Join(t.TempDir(), "token.lua")
	if err := os.WriteFile(script, []byte("wrk.headers[\"Authorization\"] = \""+token+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func(script string) contender {
		return contender{procs: s.Processes, work: func(t testing.TB) float64 { return wrk(t, d, s.URL()+tag, script) }}
	}
	interleave(t, 1, get(script), get(""))
	d = pick(b, 3*time.Second, time.Second)
	got := interleave(t, 3, get(script), get(""))
	rows := []figure{{
		row: "manifest GET with a token: CPU", berth: perRequest(got[0]), peer: "the same for nobody " + perRequest(got[1]),
		value: ratio(got[0], got[1], sample.cost), format: "%.2f ×", goal: atMost(1.15),
	}}

	d = pick(b, 5*time.Second, 2*time.Second)
	alone := pullTimes(t, s.URL()+tag, token, d)
	stop := guessPasswords(t, s)
	among := pullTimes(t, s.URL()+tag, token, d)
	guesses := stop()
	rows = append(rows, figure{
		row:   fmt.Sprintf("token pulls while %d clients guess passwords: p99", benchWrong),
		berth: fmt.Sprintf("p50 %v, p99 %v, %.0f guesses/s", percentile(among, 50), percentile(among, 99), float64(guesses)/d.Seconds()),
		peer:  fmt.Sprintf("without p50 %v, p99 %v", percentile(alone, 50), percentile(alone, 99)),
		value: percentile(among, 99).Seconds() / percentile(alone, 99).Seconds(), format: "%.1f ×", goal: atMost(2),
	})
	return append(rows, cutList(t, b, s, alice))
}

// pullTimes sends requests at fixed times, whatever becomes of those before, and returns
// how long each took from when it was to be sent.
func pullTimes(t *testing.T, at, token string, d time.Duration) []time.Duration {
	t.Helper()
	c := newHTTPClient()
	var mu sync.Mutex // guards the rest
	var all []time.Duration
	var failed error
	var pulls sync.WaitGroup
	begin := time.Now()
	for due := begin; due.Sub(begin) < d; due = due.Add(pullEvery) {
		time.Sleep(time.Until(due))
		pulls.Go(func() {
			r, err := http.NewRequest(http.MethodGet, at, nil)
			if err == nil {
				r.Header.Set("Authorization", token)
				_, err = (&benchClient{http: c}).do(r, http.StatusOK)
			}
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took)
			if err != nil {
				failed = err
			}
		})
	}
	pulls.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	slices.Sort(all)
	return all
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Round(10 * time.Microsecond)
}

// guessPasswords has many clients show wrong passwords until stop is called, which
// returns how many were refused. It returns when all have sent the first: that so many
// connections are made at one moment, by this process, is nothing that guesses cost.
func guessPasswords(t *testing.T, s *System) (stop func() int) {
	t.Helper()
	end := make(chan struct{})
	var guessing, first sync.WaitGroup
	var mu sync.Mutex // guards the rest
	total := 0
	first.Add(benchWrong)
	for i := range benchWrong {
		guessing.Go(func() {
			c := guarded(s, "open/image", "bob", fmt.Sprint("wrong ", i))
			sent := sync.OnceFunc(first.Done)
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent() }})
			for n := 0; ; n++ {
				select {
				case <-end:
					mu.Lock()
					defer mu.Unlock()
					total += n
					return
				default:
				}
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/zot/auth/token?scope=repository:open/image:pull", nil)
				if err != nil {
					t.Error(err)
				}
				if resp, err := c.http.Do(r); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	first.Wait()
	return func() int {
		close(end)
		guessing.Wait()
		return total
	}
}

// cutList reads the whole list of repositories, of which the rules hide half.
func cutList(t *testing.T, b *bench, s *System, alice *benchClient) figure {
	repos := pick(b, 10_000, 2000)
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	err := inParallel(imageClients, repos, func(i int) error {
		to := fmt.Sprintf("%s/v2/team%d/app%d/manifests/v1", s.URL(), i%(benchRules-1), i)
		_, err := alice.send(http.MethodPut, to, []byte(index), "application/vnd.oci.image.index.v1+json", http.StatusCreated)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	bob := guarded(s, "", "bob", "bob")
	const page = 1000
	var times []time.Duration
	seen := 0
	for range 3 {
		seen = 0
		for last := ""; ; {
			at := fmt.Sprintf("%s/v2/_catalog?n=%d&last=%s", s.URL(), page, url.QueryEscape(last))
			began := time.Now()
			resp, err := bob.http.Get(at)
			if err != nil {
				t.Fatal(err)
			}
			var list struct{ Repositories []string }
			err = json.NewDecoder(resp.Body).Decode(&list)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("the list: %s, %v", resp.Status, err)
			}
			times = append(times, time.Since(began))
			if seen += len(list.Repositories); len(list.Repositories) < page {
				break
			}
			last = list.Repositories[page-1]
		}
	}
	if want := repos / 2; seen < want-repos/100 || seen > want+repos/100 {
		t.Fatalf("bob sees %d repositories of %d", seen, repos)
	}
	slices.Sort(times)
	slowest := times[len(times)-1]
	return figure{
		row:   fmt.Sprintf("a page of 1,000 of %d repositories, by %d rules: slowest", repos, benchRules),
		berth: fmt.Sprintf("%d pages, median %v", len(times), percentile(times, 50)),
		value: slowest.Seconds() * 1e3, format: "%.0f ms", goal: atMost(50),
	}
}
