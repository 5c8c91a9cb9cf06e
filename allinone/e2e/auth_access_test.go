//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// accessRules are those of TestAuthAccess: the users named may push to team/.
func accessRules(users ...string) map[string]any {
	all := []string{"read", "create", "update", "delete"}
	return map[string]any{
		"repositories": map[string]any{"team/**": map[string]any{"policies": []map[string]any{{"users": users, "actions": []string{"read", "create", "update"}}}}},
		"adminPolicy":  map[string]any{"users": []string{"boss"}, "actions": all},
		"metrics":      map[string]any{"users": []string{"prom"}},
	}
}

// TestAuthAccess is access control with programs of their own: two gateways ask one
// catalog. crane and docker push and pull what the rules let them and nothing else, each
// gateway's metrics are for who is listed, a right that is withdrawn is gone on both while
// they run, and so is what a user has made who is taken out of the password file.
func TestAuthAccess(t *testing.T) {
	engine := startDockerd(t)
	users := filepath.Join(t.TempDir(), "htpasswd")
	var lines []string
	for _, user := range []string{"boss", "ann", "bob", "prom"} {
		lines = append(lines, NewCommands(t).Run(t, "/usr/bin/htpasswd", "-nbB", "-C", "5", user, password(user)))
	}
	write := func(lines []string) {
		t.Helper()
		if err := os.WriteFile(users, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines)
	s := startWatched(t, Options{Topology: TwoGateways, Edit: func(config map[string]any) {
		h := config["http"].(map[string]any)
		h["auth"] = map[string]any{"htpasswd": map[string]any{"path": users}, "apikey": true}
		h["accessControl"] = accessRules("ann")
	}}, "prom", password("prom"))
	var gateways []string
	for _, p := range s.of("gateway") {
		gateways = append(gateways, strings.TrimSuffix(p.ready, "/readyz"))
	}
	if len(gateways) != 2 {
		t.Fatalf("%d gateways", len(gateways))
	}
	ask := func(base, path, user, password string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}

	// Clients.
	files, crane := t.TempDir(), Client(t, "crane")
	ref := s.Addr + "/team/app:1"
	buildImage(t, engine, buildContext(t), "amd64", ref, ref)
	NewCommands(t, "DOCKER_HOST="+engine).Run(t, docker, "save", "-o", filepath.Join(files, "image.tar"), ref)
	for _, user := range []string{"ann", "bob"} {
		run := NewCommands(t, "DOCKER_HOST="+engine)
		run.Run(t, crane, "auth", "login", "-u", user, "-p", password(user), s.Addr)
		run.Run(t, docker, "login", "-u", user, "-p", password(user), s.Addr)
		for _, command := range [][]string{
			{crane, "push", "--insecure", filepath.Join(files, "image.tar"), ref}, {crane, "pull", "--insecure", ref, filepath.Join(files, user+".tar")},
			{docker, "push", ref}, {docker, "pull", ref},
		} {
			began := time.Now()
			out, diag, err := run.Try(command[0], command[1:]...)
			// An engine that takes a refusal for something that passes tries again for 50 s and more.
			if took := time.Since(began); err != nil && took > 10*time.Second {
				t.Errorf("%s by %s is refused after %v\n%s%s", strings.Join(command[:2], " "), user, took, out, diag)
			}
			if (err == nil) != (user == "ann") {
				t.Errorf("%s by %s: %v\n%s%s", strings.Join(command[:2], " "), user, err, out, diag)
			}
			if said := strings.ToLower(out + diag); err != nil && !strings.Contains(said, "denied") && !strings.Contains(said, "403") {
				t.Errorf("%s by %s fails for another reason:\n%s%s", strings.Join(command[:2], " "), user, out, diag)
			}
		}
		if _, _, err := run.Try(crane, "push", "--insecure", filepath.Join(files, "image.tar"), s.Addr+"/other/app:1"); err == nil {
			t.Errorf("%s pushes where no rule lets him", user)
		}
	}

	// Metrics.
	for _, base := range gateways {
		for user, want := range map[string]int{"": 401, "ann": 403, "prom": 200, "boss": 200} {
			if got := ask(base, "/metrics", user, password(user)); got != want {
				t.Errorf("metrics of %s for %q: %d, want %d", base, user, got, want)
			}
		}
	}

	// A right that is withdrawn.
	const manifest = "/v2/team/app/manifests/1"
	_, key := keyOfUser(t, s.URL(), "ann", password("ann"))
	for _, base := range gateways {
		for _, password := range []string{password("ann"), key} {
			if got := ask(base, manifest, "ann", password); got != 200 {
				t.Fatalf("ann reads at %s: %d", base, got)
			}
		}
	}
	everywhere := func(what, user, password string, want int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute) // a busy machine is slow; usually it takes 3 s
		for _, base := range gateways {
			for ask(base, manifest, user, password) != want {
				if time.Now().After(deadline) {
					t.Fatalf("%s at %s: %d, want %d", what, base, ask(base, manifest, user, password), want)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		for range 5 { // and it stays so
			for _, base := range gateways {
				if got := ask(base, manifest, user, password); got != want {
					t.Errorf("%s at %s, later: %d, want %d", what, base, got, want)
				}
			}
		}
	}
	setRules(t, filepath.Dir(s.Config), accessRules("bob"))
	everywhere("ann without the right", "ann", password("ann"), 403)
	everywhere("ann's key without the right", "ann", key, 403)
	everywhere("bob with the right", "bob", password("bob"), 200)

	// A user who is removed.
	setRules(t, filepath.Dir(s.Config), accessRules("ann", "bob"))
	everywhere("ann's key with the right again", "ann", key, 200)
	write(append(lines[:1:1], lines[2:]...))
	everywhere("ann, who is removed", "ann", password("ann"), 401)
	everywhere("the key of ann, who is removed", "ann", key, 401)
	everywhere("bob, who is not", "bob", password("bob"), 200)
}

// keyOfUser makes an API key.
func keyOfUser(t *testing.T, base, user, password string) (id, key string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/zot/auth/apikey", strings.NewReader(`{"label":"e2e"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got struct {
		UUID   string `json:"uuid"`
		APIKey string `json:"apiKey"`
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.APIKey == "" {
		t.Fatalf("API key: %d, %v", res.StatusCode, err)
	}
	return got.UUID, got.APIKey
}

// setRules replaces the access rules in all configuration files of a directory, each at
// once and whole.
func setRules(t *testing.T, dir string, rules map[string]any) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(all) < 3 {
		t.Fatalf("configuration files: %v, %v", all, err)
	}
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(b, &config); err != nil {
			t.Fatal(err)
		}
		h, ok := config["http"].(map[string]any)
		if !ok {
			continue
		}
		h["accessControl"] = rules
		if b, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}
