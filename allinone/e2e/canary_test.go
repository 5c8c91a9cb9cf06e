package e2e

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestLeak plants each kind of secret into a log: all are seen, on their lines, and
// what a healthy program writes is none.
func TestLeak(t *testing.T) {
	planted := map[string]string{
		"a password":             password("alice"),
		"in a DSN":               pgtest.DSN(5432, "x"),
		"of S3":                  `secretkey=` + s3test.SecretKey + ` `,
		"of the guide":           "admin:secretpassword",
		"an API key":             "zak_0123456789abcdef",
		"a session":              "cookie session=zse_abcdefgh01234567",
		"a token":                "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MX0.c2ln",
		"the state of an upload": "/v2/a/blobs/uploads/01a22fd9?_state=AbC",
		"a private key":          "-----BEGIN PRIVATE KEY-----",
		"a presigned URL":        "http://s3/b/k?X-Amz-Credential=x&X-Amz-Signature=0a1b2c",
		"a header":               "Authorization: Basic YWxpY2U6c29tZXRoaW5nIHNlY3JldA==",
		"a code":                 "/zot/auth/callback/corp?code=abc&state=x",
	}
	for i := range 6 { // wherever it begins
		pair := strings.Repeat("u", i) + ":" + password("alice")
		planted[fmt.Sprint("base64 ", i)] = base64.StdEncoding.EncodeToString([]byte(pair))
		planted[fmt.Sprint("URL base64 ", i)] = base64.RawURLEncoding.EncodeToString([]byte(pair))
		planted[fmt.Sprint("a query ", i)] = url.QueryEscape(pair)
	}
	const before, after = `{"level":"info","message":"starting"}`, `{"level":"info","message":"stopping"}`
	for what, secret := range planted {
		line := `{"level":"debug","message":"` + secret + `"}`
		if got := leak(before + "\n" + line + "\n" + after + "\n"); got != line {
			t.Errorf("%s: got %q of %s", what, got, line)
		}
	}
	for _, healthy := range []string{
		`{"message":"HTTP API","path":"/v2/a/blobs/uploads/01a2?_state=******&digest=sha256%3Aba12","username":"alice"}`,
		`{"message":"a token is refused","method":"bearer","reason":"the token has expired"}`,
		`{"message":"HTTP API","path":"/v2/basic authentication/x"}`, `{"path":"/zot/auth/callback/corp?code=******"}`,
	} {
		if got := leak(healthy); got != "" {
			t.Errorf("taken for a secret: %s", got)
		}
	}
}

// TestProgramThatTellsSecrets: a program of ours that writes one is found out when its
// test ends; what others write is not looked at.
func TestProgramThatTellsSecrets(t *testing.T) {
	for name, want := range map[string]bool{"berth-metadata": true, "slapd": false} {
		p := &Process{Name: name, Path: "/bin/sh", Args: []string{"-c", "echo ready; echo the password is " + password("alice")}, abrupt: true}
		p.start(t)
		<-p.exited
		if got := p.leak(); (got == "the password is "+password("alice")) != want {
			t.Errorf("%s: got %q", name, got)
		}
		p.log = logBuffer{} // found
		p.killed = true
	}
}
