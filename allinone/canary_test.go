package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/ldap"
)

// canary begins every secret of the test. It must come out nowhere.
const canary = "cAnArY"

// runProgram is a program that serves, in this process.
type runProgram struct {
	url, log string
}

// startProgram runs "berth serve" with a config file until the test ends.
func startProgram(t *testing.T, name string, cfg map[string]any) runProgram {
	t.Helper()
	parts := localParts()
	parts.Methods = auth.Parts{LDAP: ldap.Open}
	return startProgramOf(t, name, cfg, parts)
}

// startProgramOf does so with a program of the parts.
func startProgramOf(t *testing.T, name string, cfg map[string]any, parts Parts) runProgram {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, name+".log")
	cfg["log"].(map[string]any)["output"] = log
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name+".json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var out bytes.Buffer
	done.Go(func() {
		if err := Program("berth", "v0", "x", parts).Run(ctx, []string{"serve", file}, &out); err != nil {
			t.Errorf("%s: %v", name, err)
			stop()
		}
	})
	t.Cleanup(func() {
		stop()
		done.Wait()
		if strings.Contains(out.String(), canary) {
			t.Errorf("%s prints a secret: %s", name, out.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(log)
		for line := range bytes.Lines(b) {
			var rec struct{ Message, Address string }
			if json.Unmarshal(line, &rec) == nil && rec.Message == "listening for HTTP" {
				return runProgram{"http://" + rec.Address, log}
			}
		}
	}
	t.Fatalf("%s does not listen", name)
	return runProgram{}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestS074NoSecretComesOut puts a canary into each secret of a config file and into each
// credential of clients, uses the registry at the lowest log level, linked and split,
// and looks for the canary in logs, metrics, the audit log, answers and the config as it
// is shown (zot CVE-2025-48374).
func TestS074NoSecretComesOut(t *testing.T) {
	for _, split := range []bool{false, true} {
		t.Run(map[bool]string{false: "linked", true: "split"}[split], func(t *testing.T) {
			dir := t.TempDir()
			hash, err := bcrypt.GenerateFromPassword([]byte(canary+"-right"), bcrypt.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			htpasswd := filepath.Join(dir, "htpasswd")
			if err := os.WriteFile(htpasswd, []byte("alice:"+string(hash)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			audit := filepath.Join(dir, "audit.log")
			logins := map[string]any{"htpasswd": map[string]any{"path": htpasswd}}
			if split { // a directory that is down, so that wrong passwords fail in another way
				logins["ldap"] = map[string]any{"address": "127.0.0.1", "port": 1, "insecure": true, "baseDN": "dc=x", "userAttribute": "uid",
					"bindDN": "cn=x", "bindPassword": canary + "-ldap"}
			}
			cfg := map[string]any{
				"storage": map[string]any{"rootDirectory": filepath.Join(dir, "root")},
				"http":    map[string]any{"address": "127.0.0.1", "port": "0", "auth": logins},
				"log":     map[string]any{"level": "debug", "audit": audit},
				"cluster": map[string]any{"members": []string{"127.0.0.1:1"}, "hashKey": canary + "-cluster00"},
				"extensions": map[string]any{
					"metrics": map[string]any{},
					"events": map[string]any{"enable": true, "sinks": []any{map[string]any{"type": "http", "address": "https://127.0.0.1:1",
						"credentials": map[string]any{"username": "u", "password": canary + "-sink"}, "headers": map[string]any{"x": canary + "-header"}}}},
				},
			}
			services := map[string]any{}
			if split {
				blobs, catalog := freeAddress(t), freeAddress(t)
				back := map[string]any{
					"storage":  cfg["storage"],
					"http":     map[string]any{"address": "127.0.0.1", "port": "0"},
					"log":      map[string]any{"level": "debug"},
					"services": map[string]any{"blobstore": map[string]any{"listen": blobs}, "metadata": map[string]any{"listen": catalog}},
				}
				behind := startProgram(t, "back", back)
				defer noCanary(t, behind.log)
				services = map[string]any{"blobstore": map[string]any{"address": blobs}, "metadata": map[string]any{"address": catalog}}
			}
			cfg["services"] = services
			front := startProgram(t, "front", cfg)

			var answers strings.Builder
			ask := func(method, path string, set func(*http.Request)) *http.Response {
				t.Helper()
				u := path
				if !strings.HasPrefix(u, "http") {
					u = front.url + path
				}
				r, err := http.NewRequestWithContext(t.Context(), method, u, nil)
				if err != nil {
					t.Fatal(err)
				}
				if set != nil {
					set(r)
				}
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				fmt.Fprintln(&answers, res.Status, res.Header, string(b))
				return res
			}
			alice := func(r *http.Request) { r.SetBasicAuth("alice", canary+"-right") }
			credentials := map[string]func(*http.Request){
				"right":  alice,
				"wrong":  func(r *http.Request) { r.SetBasicAuth("alice", canary+"-wrong") },
				"nobody": func(r *http.Request) { r.SetBasicAuth("bob", canary+"-nobody") },
				"bearer": func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary+"-token") },
				"odd":    func(r *http.Request) { r.Header.Set("Authorization", canary) },
				"twice": func(r *http.Request) {
					r.Header["Authorization"] = []string{"Basic " + canary, "Basic " + canary}
				},
				"cookie": func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: canary}) },
				"proxy":  func(r *http.Request) { r.Header.Set("Proxy-Authorization", canary) },
			}
			in := 0
			for _, set := range credentials {
				for _, request := range []string{"GET /v2/", "GET /v2/_catalog", "DELETE /v2/a/manifests/t", "POST /v2/a/blobs/uploads/", "GET /v2/_zot/ext/mgmt", "GET /api/v1/repositories", "GET /metrics", "GET /nothing"} {
					method, path, _ := strings.Cut(request, " ")
					if ask(method, path, set).StatusCode < 300 {
						in++
					}
				}
			}
			if in < 3 {
				t.Errorf("void: only %d requests passed", in)
			}
			// An upload's token is a secret as well, though its owner gets it.
			begun := ask("POST", "/v2/a/blobs/uploads/", alice)
			token := begun.Header.Get("Location")
			if begun.StatusCode != http.StatusAccepted || !strings.Contains(token, "=") {
				t.Fatalf("an upload: %s, %s", begun.Status, token)
			}
			ask("PATCH", token, alice)
			_, token, _ = strings.Cut(token, "=")

			if strings.Contains(answers.String(), canary) {
				t.Error("an answer holds a secret")
			}
			noCanary(t, front.log)
			noCanary(t, audit)
			for _, f := range []string{front.log, audit} {
				if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(token)) {
					t.Errorf("%s holds the token of an upload", f)
				}
			}
			text, _ := json.Marshal(cfg)
			shown, _, err := config.Parse("x.json", text, os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			for _, dump := range []string{shown.String(), string(shown.Redacted()), fmt.Sprintf("%v %+v", shown, shown)} {
				if strings.Contains(dump, canary) {
					t.Errorf("the configuration is shown with a secret: %s", dump)
				}
			}
			if b, _ := os.ReadFile(audit); !bytes.Contains(b, []byte(`"event":"login.failed"`)) || !bytes.Contains(b, []byte(`"subject":"alice"`)) {
				t.Errorf("void: the audit log has no login: %s", b)
			}
		})
	}
}

// noCanary fails if a file has the canary in it, or nothing at all.
func noCanary(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || len(b) == 0 {
		t.Errorf("void: %s: %v", file, err)
	}
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, []byte(canary)) {
			t.Errorf("a secret in %s: %s", filepath.Base(file), line)
		}
	}
}
