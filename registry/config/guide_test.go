package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// mustParse parses a file that must be right.
func mustParse(t *testing.T, name, text string) *Config {
	t.Helper()
	c, _, err := Parse(name, []byte(text), noEnv)
	if err != nil {
		t.Fatalf("parsing %s: %v\n%s", name, err, text)
	}
	return c
}

// guide loads a configuration of the guide that zot users start from.
func guide(t *testing.T, name string) *Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "guide", name))
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, name, string(data))
}

func TestGuideLoads(t *testing.T) {
	files, err := os.ReadDir("testdata/guide")
	if err != nil || len(files) != 13 {
		t.Fatalf("got %d files, %v; want the 13 of the guide", len(files), err)
	}
	for _, f := range files {
		guide(t, f.Name())
	}
}

func TestGuideValues(t *testing.T) {
	c := guide(t, "complete.json")
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"root", c.Storage.RootDirectory, "/var/lib/zot"},
		{"gcInterval", c.Storage.GCInterval, 6 * time.Hour},
		{"commit", c.Storage.Durable(), true},
		{"pool root", c.Storage.SubPaths["/production"].RootDirectory, "/mnt/fast-ssd/production"},
		{"pool dedupe", c.Storage.SubPaths["/cache"].Dedupe, false},
		{"pool gcDelay", c.Storage.SubPaths["/cache"].GCDelay, time.Hour},
		{"port", c.HTTP.Port, "5000"},
		{"tls", c.HTTP.TLS.Cert, "/certs/server.crt"},
		{"htpasswd", c.HTTP.Auth.HTPasswd.Path, "/etc/zot/htpasswd"},
		{"anonymous", c.HTTP.AccessControl.Repositories["**"].AnonymousPolicy[0], "read"},
		{"developer", c.HTTP.AccessControl.Repositories["production/**"].Policies[1].Users[0], "developer"},
		{"audit", c.Log.Audit, "/var/log/zot/audit.log"},
		{"trivy", c.Extensions.Search.CVE.Trivy.DBRepository, "ghcr.io/aquasecurity/trivy-db"},
		{"retryDelay", c.Extensions.Sync.Registries[0].RetryDelay, 5 * time.Minute},
		{"syncTimeout", c.Extensions.Sync.Registries[0].SyncTimeout, 3 * time.Hour},
		{"scrub", c.Extensions.Scrub.Interval, 24 * time.Hour},
		{"lint", c.Extensions.Lint.Enabled(), true},
	} {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
	if got := guide(t, "ldap.json").HTTP.Auth.LDAP; got.BindDN == "" || got.BindPassword != "ldap-password" {
		t.Errorf("inline LDAP credentials: got %q, %q", got.BindDN, string(got.BindPassword))
	}
	if got := guide(t, "openid.json").HTTP.Auth.OpenID.Providers["keycloak"]; got.Issuer == "" {
		t.Error("openid provider of any name: its issuer is lost")
	}
	if got := guide(t, "replication-target.json").Extensions.Sync.Registries[0].Credentials; got == nil || got.Password != "sync-password" {
		t.Error("inline sync credentials are lost")
	}
}
