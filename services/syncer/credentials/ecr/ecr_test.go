package ecr_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/credentials/ecr"
)

const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

func TestHelper(t *testing.T) {
	until := time.Now().Add(12 * time.Hour).Truncate(time.Second)
	asked := 0
	var header http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		header = r.Header
		fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d.5}]}`, base64.StdEncoding.EncodeToString([]byte("AWS:pass")), until.Unix())
	}))
	defer srv.Close()
	t.Setenv("AWS_ENDPOINT_URL_ECR", srv.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s, err := ecr.Helper(credentials.Options{Host: host, Client: func(named ...string) (*http.Client, error) {
		if len(named) != 1 || named[0] != srv.URL {
			t.Errorf("a client for %q", named)
		}
		return srv.Client(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := s(t.Context())
		if err != nil || c.Username != "AWS" || c.Password != "pass" || !c.Until.Equal(until) {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if asked != 1 {
		t.Errorf("%d requests for one token", asked)
	}
	auth := header.Get("Authorization")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(auth, "/eu-central-1/ecr/aws4_request") ||
		!strings.Contains(auth, "x-amz-target") || header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" {
		t.Errorf("asked with %v", header)
	}
}

func TestHelperRefuses(t *testing.T) {
	client := func(...string) (*http.Client, error) { return http.DefaultClient, nil }
	for _, bad := range []string{"docker.io", "public.ecr.aws", "123.dkr.ecr.eu-central-1.amazonaws.com", host + ".evil.example"} {
		if _, err := ecr.Helper(credentials.Options{Host: bad, Client: client}); err == nil {
			t.Errorf("%s is taken for a registry of ECR", bad)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		io.WriteString(w, `{"__type":"AccessDenied"}`)
	}))
	defer srv.Close()
	t.Setenv("AWS_ENDPOINT_URL_ECR", srv.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	s, err := ecr.Helper(credentials.Options{Host: host, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s(t.Context()); err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("%v", err)
	}
}
