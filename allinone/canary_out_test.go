package allinone

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
	"github.com/berth-registry/berth/services/gateway/auth/jwt/secretsmanager"
	"github.com/berth-registry/berth/services/gateway/search"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/syncer"
)

// outside is everybody whom a registry talks to: other registries, receivers of events,
// and AWS. It asks for credentials, and refuses them.
type outside struct {
	mu    sync.Mutex
	proof map[string]bool          // kinds of secrets that came
	want  map[string]chan struct{} // closed when that kind comes
}

func newOutside(kinds ...string) *outside {
	o := &outside{proof: make(map[string]bool), want: make(map[string]chan struct{})}
	for _, k := range kinds {
		o.want[k] = make(chan struct{})
	}
	return o
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, password, basic := r.BasicAuth()
	came := ""
	switch {
	case r.URL.Path == "/sink" && r.Header.Get("X-Canary") == canary+"-header" && strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,"):
		came = password
	case r.URL.Path == "/token-sink":
		came = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	case r.Header.Get("X-Amz-Target") != "" && r.Header.Get("X-Amz-Security-Token") == canary+"-session":
		came = canary + "-session"
		fmt.Fprintf(w, `{"SecretString":"{\"1\":\"%s-key\"}"}`, canary)
	case !basic:
		w.Header().Set("WWW-Authenticate", `Basic realm="outside"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		came = password
	}
	io.Copy(io.Discard, r.Body)
	if came == "" {
		return
	}
	if r.Header.Get("X-Amz-Target") == "" {
		w.WriteHeader(http.StatusForbidden)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.want[came]; c != nil && !o.proof[came] {
		o.proof[came] = true
		close(c)
	}
}

// everyPart is a program with everything in it that the tests can have.
func everyPart() Parts {
	parts := localParts()
	parts.Methods = auth.Parts{Bearer: jwt.Bearer(secretsmanager.Open)}
	parts.Search = search.Open
	parts.Mirror = Mirrors(syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer}})
	parts.Scans = func(ctx context.Context, cfg *config.Config, blobs registry.Blobs, catalog registry.Catalog, fatal func(error), p daemon.Process) (Scans, error) {
		s, err := scanner.OpenConfigured(ctx, cfg, map[string]scanner.OpenDB{"sqlite": sqlite.OpenScanner}, blobs, catalog, fatal, p)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return parts
}

// TestS074NoSecretForOthersComesOut does the same with what the registry proves itself
// with to others: upstreams, registries that pushes are passed on to, that of the
// vulnerability database, receivers of events, and AWS.
func TestS074NoSecretForOthersComesOut(t *testing.T) {
	kinds := []string{canary + "-up", canary + "-file", canary + "-forward", canary + "-db", canary + "-sink", canary + "-bearer", canary + "-session"}
	others := newOutside(kinds...)
	server := httptest.NewServer(others)
	defer server.Close()
	second := httptest.NewServer(others) // another host, for the file of credentials
	defer second.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", canary+"-aws")
	t.Setenv("AWS_SESSION_TOKEN", canary+"-session")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")

	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(canary+"-right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	audit := filepath.Join(dir, "audit.log")
	user := func(kind string) map[string]any {
		return map[string]any{"username": "u", "password": canary + "-" + kind}
	}
	only := func(prefix string) []any { return []any{map[string]any{"prefix": prefix}} }
	cfg := map[string]any{
		"storage": map[string]any{"rootDirectory": filepath.Join(dir, "root")},
		"http": map[string]any{"address": "127.0.0.1", "port": "0", "auth": map[string]any{
			"htpasswd": map[string]any{"path": write("htpasswd", "alice:"+string(hash)+"\n")},
		}},
		"log":      map[string]any{"level": "debug", "audit": audit},
		"outbound": map[string]any{"allow": []string{"127.0.0.0/8"}},
		"extensions": map[string]any{
			"metrics": map[string]any{},
			"search": map[string]any{"cve": map[string]any{"trivy": map[string]any{
				"dbRepository": "http://u:" + canary + "-db@" + host + "/trivy-db"}}},
			"sync": map[string]any{
				"credentialsFile": write("credentials.json", `{"`+strings.TrimPrefix(second.URL, "http://")+`":{"username":"u","password":"`+canary+`-file"}}`),
				"registries": []any{
					map[string]any{"urls": []string{server.URL}, "onDemand": true, "tlsVerify": false, "content": only("up/**"), "credentials": user("up")},
					map[string]any{"urls": []string{second.URL}, "onDemand": true, "tlsVerify": false, "content": only("file/**")},
					map[string]any{"urls": []string{server.URL}, "localPushes": "forward", "tlsVerify": false, "content": only("forward/**"), "credentials": user("forward")},
				},
			},
			"events": map[string]any{"enable": true, "sinks": []any{
				map[string]any{"type": "http", "address": server.URL + "/sink?key=" + canary + "-query", "credentials": user("sink"),
					"headers": map[string]any{"X-Canary": canary + "-header"}, "secret": canary + "-webhook-0123456789"},
				map[string]any{"type": "http", "address": server.URL + "/token-sink", "credentials": map[string]any{"token": canary + "-bearer"}},
			}},
		},
	}
	program := startProgramOf(t, "berth", cfg, everyPart())
	// Where tokens of another server count nobody has a password.
	tokens := startProgramOf(t, "tokens", map[string]any{
		"storage": map[string]any{"rootDirectory": filepath.Join(dir, "tokens")},
		"http": map[string]any{"address": "127.0.0.1", "port": "0", "auth": map[string]any{
			"bearer": map[string]any{"realm": "https://tokens.example.com/", "service": "berth",
				"awsSecretsManager": map[string]any{"region": "eu-central-1", "secretName": "keys"}},
		}},
		"log":      map[string]any{"level": "debug"},
		"outbound": map[string]any{"allow": []string{"127.0.0.0/8"}},
	}, everyPart())

	var answers strings.Builder
	ask := func(method, path, body, authorization string) int {
		t.Helper()
		at := program
		if authorization != "" {
			at = tokens
		}
		r, err := http.NewRequestWithContext(t.Context(), method, at.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if r.SetBasicAuth("alice", canary+"-right"); authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		if method == http.MethodPut {
			r.Header.Set("Content-Type", registry.TypeIndex)
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		fmt.Fprintln(&answers, method, path, res.Status, res.Header, string(b))
		return res.StatusCode
	}
	ask("GET", "/v2/up/x/manifests/t", "", "")
	ask("GET", "/v2/file/x/manifests/t", "", "")
	if code := ask("PUT", "/v2/forward/x/manifests/t", `{"schemaVersion":2,"mediaType":"`+registry.TypeIndex+`","manifests":[]}`, ""); code != http.StatusCreated {
		t.Errorf("void: a push is answered with %d: %s", code, answers.String())
	}
	part := base64.RawURLEncoding.EncodeToString
	ask("GET", "/v2/", "", "Bearer "+part([]byte(`{"alg":"ES256","kid":"1"}`))+"."+part([]byte(`{"sub":"x"}`))+"."+part([]byte(canary)))
	patient, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, kind := range kinds {
		select {
		case <-others.want[kind]:
		case <-patient.Done():
			t.Errorf("void: %s did not go where it belongs", kind)
		}
	}
	for _, path := range []string{"/api/v1/mirrors", "/api/v1/scans", "/api/v1/scans/database", "/api/v1/events/sinks", "/v2/_zot/ext/mgmt", "/metrics"} {
		ask("GET", path, "", "")
	}
	if !strings.Contains(answers.String(), server.URL) {
		t.Error("void: no answer tells of mirrors")
	}
	ask("POST", "/api/v1/mirrors/test", `{"rule":0}`, "")

	for line := range strings.Lines(answers.String()) {
		if strings.Contains(line, canary) {
			t.Errorf("an answer holds a secret: %s", line)
		}
	}
	noCanary(t, program.log)
	noCanary(t, tokens.log)
	// Nor as they go over the wire.
	told, err := os.ReadFile(program.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if wire := base64.StdEncoding.EncodeToString([]byte("u:" + kind)); strings.Contains(answers.String()+string(told), wire) {
			t.Errorf("%s is in the log or an answer as a client sends it", kind)
		}
	}
	noCanary(t, audit)
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shown, _, err := config.Parse("x.json", text, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	for _, dump := range []string{shown.String(), string(shown.Redacted()), fmt.Sprintf("%v %+v", shown, shown)} {
		for line := range bytes.Lines([]byte(dump)) {
			if bytes.Contains(line, []byte(canary)) {
				t.Errorf("the configuration is shown with a secret: %.400s", line)
			}
		}
	}
}
