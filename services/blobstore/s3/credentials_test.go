package s3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// noCredentials makes the environment one in which there are none.
func noCredentials(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func saved(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// cloud is what gives credentials to those who run in a cloud: the metadata of
// the instance, an agent of the container, and the service that takes tokens. The
// S3 server has no sessions, so no session token goes with them.
type cloud struct {
	*httptest.Server
	secret string
	asked  atomic.Int64 // for keys
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{secret: s3test.SecretKey}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
		fmt.Fprint(w, "session")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "role") })
	keys := func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","LastUpdated":%q,"AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":%q}`,
			time.Now().UTC().Format(time.RFC3339), s3test.AccessKey, c.secret, c.end())
	}
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/role", keys)
	mux.HandleFunc("GET /container", keys)
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "web identity" || r.FormValue("RoleArn") == "" {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, s3test.AccessKey, c.secret, c.end())
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) end() string { return time.Now().Add(6 * time.Hour).UTC().Format(time.RFC3339) }

// instance makes this an instance whose metadata c has.
func (c *cloud) instance(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", c.URL)
}

// Credentials come from wherever the SDK of Amazon looks for them, with no key in
// the config file.
func TestCredentials(t *testing.T) {
	srv := s3test.Start(t)
	for _, test := range []struct {
		name string
		give func(t *testing.T, secret string, d config.Driver)
	}{
		{"config", func(t *testing.T, secret string, d config.Driver) {
			d["accesskey"], d["secretkey"] = s3test.AccessKey, secret
		}},
		{"file", func(t *testing.T, secret string, d config.Driver) {
			d["accesskey"], d["secretkeyfile"] = s3test.AccessKey, saved(t, secret+"\n")
		}},
		{"environment", func(t *testing.T, secret string, d config.Driver) {
			t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
		}},
		{"profile of the environment", func(t *testing.T, secret string, d config.Driver) {
			t.Setenv("AWS_PROFILE", "berth")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", saved(t, "[berth]\naws_access_key_id = "+s3test.AccessKey+"\naws_secret_access_key = "+secret+"\n"))
		}},
		{"profile of the config", func(t *testing.T, secret string, d config.Driver) {
			d["profile"] = "other"
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", saved(t, "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n"+
				"[other]\naws_access_key_id = "+s3test.AccessKey+"\naws_secret_access_key = "+secret+"\n"))
		}},
		{"web identity", func(t *testing.T, secret string, d config.Driver) {
			c := newCloud(t)
			c.secret = secret
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/berth")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", saved(t, "web identity"))
			t.Setenv("AWS_ENDPOINT_URL_STS", c.URL)
		}},
		{"container", func(t *testing.T, secret string, d config.Driver) {
			c := newCloud(t)
			c.secret = secret
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", c.URL+"/container")
		}},
		{"instance metadata", func(t *testing.T, secret string, d config.Driver) {
			c := newCloud(t)
			c.secret = secret
			c.instance(t)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			open := func(secret string) error {
				noCredentials(t)
				d := srv.Driver("/credentials")
				delete(d, "accesskey")
				delete(d, "secretkey")
				test.give(t, secret, d)
				driver, err := Open(t.Context(), s3Config(t, d), Options{})
				if err == nil {
					driver.Close()
				}
				return err
			}
			if err := open(s3test.SecretKey); err != nil {
				t.Error(err)
			}
			const canary = "canary-of-a-secret-key"
			if err := open(canary); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("with a wrong key: %v", err)
			}
		})
	}
}

// Without any the start fails, at once and with a word about credentials.
func TestNoCredentials(t *testing.T) {
	d := s3test.Start(t).Driver("/none")
	noCredentials(t)
	delete(d, "accesskey")
	delete(d, "secretkey")
	_, err := Open(t.Context(), s3Config(t, d), Options{})
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "credentials") {
		t.Errorf("got %v", err)
	}
}

// forgetful is a server that does not take credentials any more from some time
// on, until others were asked for.
type forgetful struct {
	cloud   *cloud
	after   atomic.Int64 // how often credentials have to be asked for
	refused atomic.Int64
}

func (f *forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.cloud.asked.Load() >= f.after.Load() {
		return http.DefaultTransport.RoundTrip(r)
	}
	f.refused.Add(1)
	return &http.Response{
		StatusCode: http.StatusBadRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(`<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>`)),
	}, nil
}

// Credentials expire in mid-upload, hours before they were said to: the upload
// goes on with others (G13).
func TestG13CredentialsExpire(t *testing.T) {
	d := s3test.Start(t).Driver("/expire")
	noCredentials(t)
	c := newCloud(t)
	c.instance(t)
	delete(d, "accesskey")
	delete(d, "secretkey")
	server := &forgetful{cloud: c}
	store, _ := openPools(t, d, Options{Transport: server})
	blob := noise(20<<20, 1)
	u, err := store.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	body := newPaused(blob, 9<<20)
	type result struct {
		stored registry.Stored
		err    error
	}
	done := make(chan result, 1)
	go func() {
		s, err := store.Commit(t.Context(), u, body, registry.SHA256.FromBytes(blob))
		done <- result{s, err}
	}()
	<-body.sent
	server.after.Store(c.asked.Load() + 1)
	close(body.resume)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if server.refused.Load() == 0 {
		t.Error("void: no request was refused")
	}
	got := new(bytes.Buffer)
	content, err := store.Open(t.Context(), r.stored, registry.Whole)
	if err == nil {
		_, err = io.Copy(got, content)
		content.Close()
	}
	if err != nil || !bytes.Equal(got.Bytes(), blob) {
		t.Errorf("the blob has other bytes (%v)", err)
	}
}
