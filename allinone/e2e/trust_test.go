//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// hook receives events. It is dead until it is told to listen.
type hook struct {
	addr string

	mu  sync.Mutex
	got []string // "type repository reference", each once
	ids map[string]bool
}

func newHook(t *testing.T) *hook {
	t.Helper()
	return &hook{addr: loopback(freePort(t)), ids: make(map[string]bool)}
}

func (h *hook) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Webhook-Signature") == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := r.Header.Get("Ce-Id"); !h.ids[id] {
		h.ids[id] = true
		var e struct{ Name, Reference string }
		_ = json.Unmarshal(b, &e)
		h.got = append(h.got, fmt.Sprint(r.Header.Get("Ce-Type"), " ", e.Name, " ", e.Reference))
	}
}

func (h *hook) events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// within calls try until it returns "", or fails the test with what it said last.
func within(t *testing.T, d time.Duration, try func() string) {
	t.Helper()
	for deadline := time.Now().Add(d); ; time.Sleep(200 * time.Millisecond) {
		problem := try()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(problem)
		}
	}
}

// person is a user with clients of their own.
func person(t *testing.T, addr, user string, env ...string) *Commands {
	t.Helper()
	c := NewCommands(t, env...)
	dir := filepath.Join(c.dir, ".docker")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password(user)))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, addr, auth)), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTrust signs with cosign, and pulls with crane and docker through a gate; what
// happens is told to a receiver that is dead at first.
func TestTrust(t *testing.T) {
	engine := startDockerd(t)
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) { testTrust(t, topology, engine) })
	}
}

func testTrust(t *testing.T, topology Topology, engine string) {
	users := filepath.Join(t.TempDir(), "htpasswd")
	var lines strings.Builder
	for _, user := range []string{"ci", "dev"} {
		out, err := exec.Command("htpasswd", "-nbB", "-C", "5", user, password(user)).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(strings.TrimSpace(string(out)) + "\n")
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	sink := newHook(t)
	s := Start(t, Options{Topology: topology, Edit: func(config map[string]any) {
		h := config["http"]
		if m, ok := h.(map[string]any); ok {
			m["auth"] = map[string]any{"htpasswd": map[string]any{"path": users}}
			m["accessControl"] = map[string]any{
				"adminPolicy":  map[string]any{"users": []string{"ci"}, "actions": []string{"read", "create", "update", "delete"}},
				"repositories": map[string]any{"**": map[string]any{"defaultPolicy": []string{"read"}}},
			}
		}
		config["extensions"] = map[string]any{
			"trust":  map[string]any{"cosign": true},
			"gates":  []any{map[string]any{"repositories": []string{"prod/**"}, "signedBy": "cosign", "except": []string{"ci"}}},
			"lint":   map[string]any{"enable": true, "mandatoryAnnotations": []string{}},
			"events": map[string]any{"enable": true, "sinks": []any{map[string]any{"type": "http", "address": "http://" + sink.addr + "/", "secret": password("sink")}}},
		}
	}})
	crane, cosignPath := Client(t, "crane"), Client(t, "cosign")
	ci := person(t, s.Addr, "ci", "COSIGN_PASSWORD=pallet", "TUF_MIRROR=http://127.0.0.1:9", "COSIGN_EXPERIMENTAL=1")
	dev := person(t, s.Addr, "dev", "DOCKER_HOST="+engine)
	for _, key := range []string{"mine", "other"} {
		ci.Run(t, cosignPath, "generate-key-pair", "--output-key-prefix", key)
	}
	push := func(ref string) string {
		t.Helper()
		// Not what another topology pushed: an engine that has an image only asks whether it is the one it has.
		text := t.Name() + " " + ref
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		writeFile(t, ci, "layer.tar", layer.String())
		ci.Run(t, crane, "append", "--insecure", "--oci-empty-base", "-f", "layer.tar", "-t", s.Addr+"/"+ref)
		return s.Addr + "/" + ref[:strings.IndexByte(ref, ':')] + "@" + ci.Run(t, crane, "digest", "--insecure", s.Addr+"/"+ref)
	}
	sign := func(key, ref string, more ...string) {
		t.Helper()
		args := append([]string{"sign", "--key", key, "--tlog-upload=false", "-y", "--allow-insecure-registry", "--allow-http-registry"}, more...)
		ci.Run(t, cosignPath, append(args, ref)...)
	}
	began := time.Now()
	signed, bundled, forged := push("prod/app:1"), push("prod/app:2"), push("prod/app:3")
	plain := push("plain/app:1")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("pushes took %v while the receiver of events was dead", took)
	}

	// pulled reports how two clients fare: "" if they pull, or what both said.
	pulled := func(ref string) string {
		out, said, err := dev.Try(crane, "pull", "--insecure", ref, "image.tar")
		if err == nil {
			_, said, err = dev.Try(docker, "pull", ref)
			if err == nil {
				return ""
			}
			return "docker: " + said
		}
		_, dockerSaid, dockerErr := dev.Try(docker, "pull", ref)
		if dockerErr == nil {
			return "crane alone: " + out + said
		}
		return "crane: " + said + "docker: " + dockerSaid
	}
	blocked := func(ref, why string) {
		t.Helper()
		said := pulled(ref)
		crane, docker, both := strings.Cut(said, "docker: ")
		if !both || !strings.Contains(crane, why) || !strings.Contains(docker, why) {
			t.Errorf("pull of %s: want both to say %q:\n%s", ref, why, said)
		}
	}
	if said := pulled(plain); said != "" {
		t.Fatalf("no gate holds for %s:\n%s", plain, said)
	}
	blocked(s.Addr+"/prod/app:1", "this image can't be pulled: it has no signature of cosign")
	sign("mine.key", signed)
	sign("mine.key", bundled, "--new-bundle-format")
	sign("other.key", forged)
	upload := func(user string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v2/_zot/ext/cosign", strings.NewReader(readFile(t, ci, "mine.pub")))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password(user))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := upload("dev"); got != http.StatusForbidden {
		t.Errorf("who is no administrator has a key trusted: %d", got)
	}
	if got := upload("ci"); got != http.StatusOK {
		t.Fatalf("uploading a key: %d", got)
	}
	for _, ref := range []string{signed, bundled, s.Addr + "/prod/app:1"} {
		within(t, time.Minute, func() string { return pulled(ref) })
	}
	blocked(s.Addr+"/prod/app:3", "its signature is not trusted: no uploaded key has made this signature")
	// The signature of one image, at the tag of another's (S-086).
	other := push("prod/app:4")
	at := func(ref string) string {
		repo, digest, _ := strings.Cut(ref, "@")
		return repo + ":" + strings.Replace(digest, ":", "-", 1) + ".sig"
	}
	ci.Run(t, crane, "copy", "--insecure", at(signed), at(other))
	within(t, time.Minute, func() string {
		if said := pulled(other); !strings.Contains(said, "the signature is of another image") {
			return "a signature of another image: " + said
		}
		return ""
	})
	if topology == Linked {
		berth := Program(t, "berth")
		if out := ci.Run(t, berth, "why", s.Config, "prod/app:1"); !strings.Contains(out, "may be pulled") || !strings.Contains(out, "trusted, by") {
			t.Errorf("berth why: %s", out)
		}
		if out, _, err := ci.Try(berth, "why", s.Config, "prod/app:3"); err == nil || !strings.Contains(out, "can't be pulled: its signature is not trusted") {
			t.Errorf("berth why: %v, %s", err, out)
		}
		if out := ci.Run(t, berth, "trust", s.Config); !strings.Contains(out, "cosign") || !strings.Contains(out, "ci") {
			t.Errorf("berth trust: %s", out)
		}
		if out := ci.Run(t, berth, "events", "--sinks", s.Config); !strings.Contains(out, "http http://"+sink.addr+"/") || strings.Contains(out, password("sink")) {
			t.Errorf("berth events --sinks: %s", out)
		}
	}
	sink.listen(t)
	const updated = "zotregistry.image.updated "
	want := []string{
		"zotregistry.repository.created prod/app ", updated + "prod/app 1", updated + "prod/app 2", updated + "prod/app 3",
		"zotregistry.repository.created plain/app ", updated + "plain/app 1", updated + "prod/app 4",
	}
	within(t, 5*time.Minute, func() string {
		got := slices.DeleteFunc(sink.events(), func(e string) bool { return strings.Contains(e, "sha256") }) // signatures
		if !slices.Equal(got, want) {
			return fmt.Sprintf("events: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return ""
	})
}
