package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everySecret has "hush" wherever a secret can stand.
const everySecret = `{
	"storage": {"metadata": {"driver": "postgres", "dsn": "postgres://u:hush@db/x"},
		"storageDriver": {"name": "s3", "bucket": "b", "region": "r", "accesskey": "hush", "secretkey": "hush", "sessiontoken": "hush"},
		"cacheDriver": {"credentials": {"accountkey": "hush", "secret": "hush"}, "name": "redis", "url": "redis://u:hush@r:1", "password": "hush", "sentinel_password": "hush", "addr": ["redis://:hush@a"]}},
	"http": {"auth": {
		"ldap": {"address": "a", "baseDN": "b", "userAttribute": "u", "bindDN": "c", "bindPassword": "hush"},
		"openid": {"providers": {"x": {"clientid": "i", "clientsecret": "hush", "issuer": "https://i", "scopes": ["openid"]}}},
		"sessionDriver": {"name": "redis", "password": "hush"}}},
	"cluster": {"hashKey": "hush"},
	"extensions": {
		"sync": {"registries": [{"urls": ["https://u:hush@a"], "credentials": {"username": "u", "password": "hush"},
			"notices": {"secret": "hush, at sixteen characters"}}], "notices": {"listen": "127.0.0.1:0"}},
		"events": {"enable": true, "sinks": [{"type": "http", "address": "https://u:hush@a", "proxy": "http://u:hush@p",
			"headers": {"Authorization": "hush"}, "credentials": {"password": "hush", "token": "hush"}, "secret": "hush"}]},
		"search": {"enable": true, "cve": {"trivy": {"dbRepository": "u:hush@host/trivy-db"}}}}
}`

// TestEverySecretIsHidden: no key that holds a secret is missing in the text that the
// tests below look for secrets of. Who adds such a key adds it there.
func TestEverySecretIsHidden(t *testing.T) {
	var all any
	if err := json.Unmarshal([]byte(everySecret), &all); err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if k.Type == SecretT && !holds(all, strings.Split(strings.ReplaceAll(k.Path, "[]", ".[]"), ".")) {
			t.Errorf("%s holds a secret and is not in the test", k.Path)
		}
	}
}

// holds reports whether a value has something at a path, where "*" is any name and
// "[]" any item.
func holds(v any, path []string) bool {
	if len(path) == 0 {
		return v != nil && v != ""
	}
	switch v := v.(type) {
	case map[string]any:
		if path[0] != "*" {
			return holds(v[path[0]], path[1:])
		}
		for _, x := range v {
			if holds(x, path[1:]) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if path[0] == "[]" && holds(x, path[1:]) {
				return true
			}
		}
	}
	return false
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := mustParse(t, "x.json", everySecret)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("config", "config", c, "metadata", c.Storage.Metadata, "driver", c.Storage.StorageDriver)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"Redacted": string(c.Redacted()),
		"%v":       fmt.Sprintf("%v", c),
		"%+v":      fmt.Sprintf("%+v", c.Storage.Metadata),
		"%#v":      fmt.Sprintf("%#v", c.Storage.Metadata),
		"driver":   fmt.Sprintf("%v %#v", c.Storage.StorageDriver, c.Storage.CacheDriver),
		"log":      log.String(),
		"JSON":     string(encoded),
	} {
		if strings.Contains(text, "hush") {
			t.Errorf("%s tells a secret: %s", what, text)
		}
	}
	if got := string(c.Redacted()); !strings.Contains(got, `"bindPassword": "(secret)"`) || !strings.Contains(got, "https://(secret)@a") {
		t.Errorf("hidden without a trace: %s", got)
	}
	if c.HTTP.Auth.LDAP.BindPassword != "hush" {
		t.Error("printing changed the secret")
	}
	warnings, refused := c.Unbuilt(nil)
	if text := fmt.Sprint(warnings, refused); strings.Contains(text, "hush") {
		t.Errorf("the list of unbuilt keys tells a secret: %s", text)
	}
}

func TestErrorsTellNoSecret(t *testing.T) {
	for _, text := range []string{
		`{"storage":{"metadata":{"dsn":["hush"]}}}`,
		`{"storage":{"metadata":{"dsn":{"hush":1}}}}`,
		`{"storage":{"metadata":{"dsn":"hush"}}}`,
		`{"http":{"externalUrl":"://u:hush@a"}}`,
		`{"extensions":{"sync":{"registries":[{"urls":["ftp://u:hush@a"]}]}}}`,
	} {
		if _, _, err := Parse("x.json", []byte(text), noEnv); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"plain": "s", "line": "s\n", "dos": "s\r\n", "inner": "a\nb\n", "empty": "\n", "big": strings.Repeat("x", maxSecret+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		value Secret
		file  string
		want  Secret // empty: an error
	}{
		{"inline", "", "inline"},
		{"", "plain", "s"},
		{"", "line", "s"},
		{"", "dos", "s"},
		{"", "inner", "a\nb"},
		{"", "empty", ""},
		{"", "big", ""},
		{"", "none", ""},
	} {
		file := test.file
		if file != "" {
			file = filepath.Join(dir, file)
		}
		got, err := ReadSecret(test.value, file)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q, %q: got %q, %v", string(test.value), test.file, string(got), err)
		}
	}
	m := Metadata{DSNFile: filepath.Join(dir, "plain")}
	if dsn, err := m.ReadDSN(); dsn != "s" || err != nil {
		t.Errorf("DSN from a file: %q, %v", string(dsn), err)
	}
}
