package secretsmanager

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/gateway/auth"
)

func environment(t *testing.T, endpoint string) {
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	t.Setenv("AWS_SESSION_TOKEN", "session")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}

var env = auth.Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}}

// TestRead: what is asked of the API, with which signature, and what becomes of answers.
func TestRead(t *testing.T) {
	var got *http.Request
	var asked map[string]string
	status, body := 200, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, asked = r, nil
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if status == http.StatusFound {
			w.Header().Set("Location", "http://169.254.169.254/")
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer srv.Close()
	environment(t, srv.URL+"/")
	read, err := Open(&config.AWSSecretsManager{Region: "eu-central-1", SecretName: "berth/\"keys\""}, outbound.Rules{}, env)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		status     int
		body, want string // "": an error
	}{
		{200, `{"SecretString":"{}"}`, "{}"},
		{200, `{"SecretBinary":"e30="}`, "{}"},
		{200, `{"Name":"x"}`, ""},
		{200, `canary`, ""},
		{200, `{"SecretString":"` + strings.Repeat("canary", maxAnswer/6) + `"}`, ""},
		{400, `{"__type":"ResourceNotFoundException","Message":"canary"}`, ""},
		{403, `canary`, ""},
		{302, ``, ""},
		{503, `{"SecretString":"canary"}`, ""},
	} {
		status, body = test.status, test.body
		text, err := read(t.Context())
		if string(text) != test.want || (err == nil) != (test.want != "") || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%d %.60s: %q, %v", status, body, text, err)
		}
	}
	sig := got.Header.Get("Authorization")
	if got.Method != http.MethodPost || got.URL.Path != "/" || got.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" ||
		!strings.HasPrefix(sig, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(sig, "/eu-central-1/secretsmanager/aws4_request") ||
		!strings.Contains(sig, "x-amz-target") || got.Header.Get("X-Amz-Security-Token") != "session" {
		t.Errorf("asked with %s %s %v", got.Method, got.URL, got.Header)
	}
	if fmt.Sprint(asked) != `map[SecretId:berth/"keys"]` {
		t.Errorf("asked for %v", asked)
	}
}

// TestOpenRefuses: what would become a part of a host name must be a region; and this
// machine is asked only if the environment names it.
func TestOpenRefuses(t *testing.T) {
	environment(t, "")
	t.Setenv("AWS_ENDPOINT_URL", "")
	for _, bad := range []string{"", "x", "eu-central-1.evil.example/", "eu-central-1@evil", "EU-CENTRAL-1"} {
		if _, err := Open(&config.AWSSecretsManager{Region: bad, SecretName: "s"}, outbound.Rules{}, env); err == nil {
			t.Errorf("region %q is taken", bad)
		}
	}
	for _, good := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1"} {
		if _, err := Open(&config.AWSSecretsManager{Region: good, SecretName: "s"}, outbound.Rules{}, env); err != nil {
			t.Errorf("region %q: %v", good, err)
		}
	}
}
