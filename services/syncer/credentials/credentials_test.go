package credentials_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// write makes a file of the test's own.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDocker(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("ann:pass:word"))
	bin := t.TempDir()
	for name, script := range map[string]string{
		"works":  `read server; [ "$1" = get ] && printf '{"ServerURL":"%s","Username":"of %s","Secret":"s"}' "$server" "$server"`,
		"token":  `printf '{"Username":"<token>","Secret":"t"}'`,
		"none":   `echo "credentials not found in native keychain"; exit 1`,
		"broken": `echo "the secret is hush" >&2; exit 2`,
		"other":  `echo hello`,
		"long":   `head -c 2000000 /dev/zero`,
	} {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	for _, test := range []struct {
		name, config, host string
		want               *upstream.Credentials
		err                string
	}{
		{name: "auth", config: `{"auths":{"a.example":{"auth":"` + auth + `"}}}`, host: "a.example", want: &upstream.Credentials{Username: "ann", Password: "pass:word"}},
		{name: "a URL as key", config: `{"auths":{"https://a.example/v2/":{"auth":"` + auth + `"}}}`, host: "a.example", want: &upstream.Credentials{Username: "ann", Password: "pass:word"}},
		{name: "Docker Hub", config: `{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth + `"}}}`, host: "docker.io", want: &upstream.Credentials{Username: "ann", Password: "pass:word"}},
		{name: "user and password", config: `{"auths":{"a.example":{"username":"u","password":"p"}}}`, host: "a.example", want: &upstream.Credentials{Username: "u", Password: "p"}},
		{name: "identity token", config: `{"auths":{"a.example":{"auth":"` + auth + `","identitytoken":"i"}}}`, host: "a.example", want: &upstream.Credentials{Username: "<token>", Password: "i"}},
		{name: "another port", config: `{"auths":{"a.example:5000":{"auth":"` + auth + `"}}}`, host: "a.example"},
		{name: "a name that ends alike", config: `{"auths":{"evil-a.example":{"auth":"` + auth + `"}}}`, host: "a.example"},
		{name: "no base64", config: `{"auths":{"a.example":{"auth":"!"}}}`, host: "a.example", err: "not base64"},
		{name: "no JSON", config: `{`, host: "a.example", err: "not what docker writes"},
		{name: "too large", config: strings.Repeat(" ", 2<<20), host: "a.example", err: "too large"},
		{name: "helper of the host", config: `{"credHelpers":{"a.example":"works"},"credsStore":"broken"}`, host: "a.example", want: &upstream.Credentials{Username: "of a.example", Password: "s"}},
		{name: "store", config: `{"credsStore":"works"}`, host: "a.example", want: &upstream.Credentials{Username: "of a.example", Password: "s"}},
		{name: "store of Docker Hub", config: `{"credsStore":"works"}`, host: "docker.io", want: &upstream.Credentials{Username: "of https://index.docker.io/v1/", Password: "s"}},
		{name: "token of a helper", config: `{"credsStore":"token"}`, host: "a.example", want: &upstream.Credentials{Username: "<token>", Password: "t"}},
		{name: "store without an entry", config: `{"credsStore":"none","auths":{"a.example":{"auth":"` + auth + `"}}}`, host: "a.example", want: &upstream.Credentials{Username: "ann", Password: "pass:word"}},
		{name: "helper fails", config: `{"credsStore":"broken"}`, host: "a.example", err: "docker-credential-broken has no credentials for a.example: exit status 2"},
		{name: "helper answers something else", config: `{"credsStore":"other"}`, host: "a.example", err: "answers other than"},
		{name: "helper without end", config: `{"credsStore":"long"}`, host: "a.example", err: "docker-credential-long"},
		{name: "no such helper", config: `{"credsStore":"absent"}`, host: "a.example", err: "not in the PATH"},
		{name: "a helper somewhere else", config: `{"credsStore":"../../x"}`, host: "a.example", err: "no name of a program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := credentials.Docker(write(t, "config.json", test.config, 0o600), test.host)(t.Context())
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "hush") {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got, err := credentials.Docker(filepath.Join(bin, "absent.json"), "a.example")(t.Context()); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}

func TestDockerFile(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", "/etc/d")
	if got := credentials.DockerFile(); got != "/etc/d/config.json" {
		t.Error(got)
	}
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", "/home/x")
	if got := credentials.DockerFile(); got != "/home/x/.docker/config.json" {
		t.Error(got)
	}
}

// TestKept: credentials are asked for again when a twelfth of their life is left, an
// hour after they came at the latest, and used to their end if nobody has new ones.
func TestKept(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	asked, life, fail := 0, 12*time.Minute, false
	s := credentials.Kept(func(context.Context) (*upstream.Credentials, error) {
		asked++
		if fail {
			return nil, errors.New("down")
		}
		return &upstream.Credentials{Username: fmt.Sprint(asked), Until: now.Add(life)}, nil
	}, func() time.Time { return now })
	step := func(forward time.Duration, want string) {
		t.Helper()
		now = now.Add(forward)
		c, err := s(t.Context())
		got := fmt.Sprint(err)
		if err == nil {
			got = c.Username
		}
		if got != want {
			t.Errorf("%v later: %s, want %s", forward, got, want)
		}
	}
	step(0, "1")
	step(10*time.Minute, "1")
	step(2*time.Minute, "2")
	fail = true
	step(11*time.Minute+30*time.Second, "2")
	step(time.Minute, "down")
	fail, life = false, 12*time.Hour
	step(0, "5")
	step(59*time.Minute, "5")
	step(time.Minute, "6")
}

func TestFirst(t *testing.T) {
	none := func(context.Context) (*upstream.Credentials, error) { return nil, nil }
	one := func(context.Context) (*upstream.Credentials, error) {
		return &upstream.Credentials{Username: "one"}, nil
	}
	bad := func(context.Context) (*upstream.Credentials, error) { return nil, errors.New("bad") }
	if c, err := credentials.First(nil, none, one, bad)(t.Context()); err != nil || c.Username != "one" {
		t.Error(c, err)
	}
	if _, err := credentials.First(bad, one)(t.Context()); err == nil {
		t.Error("an error is passed over")
	}
	if c, err := credentials.First(none)(t.Context()); c != nil || err != nil {
		t.Error(c, err)
	}
}
