package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

// values compares what was read, not where it stood.
var values = cmpopts.IgnoreUnexported(Config{})

func TestEmptyFileIsDefaults(t *testing.T) {
	got := mustParse(t, "x.json", `{"log":{}}`)
	if diff := cmp.Diff(Defaults(), got, values); diff != "" {
		t.Error(diff)
	}
	if c := WithoutFile(); c.HTTP.Address != "127.0.0.1" || c.HTTP.Port != "5000" || c.Storage.RootDirectory != "data" {
		t.Errorf("without a file: %s:%s, %s", c.HTTP.Address, c.HTTP.Port, c.Storage.RootDirectory)
	}
}

func TestYAMLIsJSON(t *testing.T) {
	for _, name := range []string{"complete", "ldap", "openid", "replication-target", "prefetch"} {
		want := guide(t, name+".json")
		var tree any
		if err := yaml.Unmarshal([]byte(want.String()), &tree); err != nil {
			t.Fatal(err)
		}
		twin := mustParse(t, "x.json", want.String()) // secrets and defaults as printed
		text, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"x.yaml", "x.YML", "x.conf", "x"} {
			if diff := cmp.Diff(twin, mustParse(t, file, string(text)), values); diff != "" {
				t.Errorf("%s as %s:\n%s", name, file, diff)
			}
		}
	}
}

func TestYAMLAnchors(t *testing.T) {
	c := mustParse(t, "x.yaml", `
storage:
  subPaths:
    /a: &fast
      rootDirectory: /a
      gcDelay: 2h
      dedupe: Yes
    /b:
      <<: *fast
      rootDirectory: /b
http: {port: 0o17, compat: docker2s2}
`)
	b := c.Storage.SubPaths["/b"]
	if b.RootDirectory != "/b" || b.GCDelay != 2*time.Hour {
		t.Errorf("merge: got %q, %v", b.RootDirectory, b.GCDelay)
	}
}

// Each pool has policies of its own, in the form that zot's example has them.
func TestRetentionOfPools(t *testing.T) {
	c := mustParse(t, "x.json", `{"storage": {"rootDirectory": "/tmp/zot", "gc": true, "gcDelay": "2h", "gcInterval": "1h",
		"retention": {"dryRun": true, "delay": "24h", "policies": [{"repositories": ["**"], "keepTags": [{"patterns": ["v2.*"]}]}]},
		"subPaths": {"/a": {"rootDirectory": "/tmp/zot1", "dedupe": true,
			"retention": {"policies": [{"repositories": ["infra/*", "prod/*"], "deleteReferrers": false}]}}}}}`)
	want := &Retention{Policies: []RetentionPolicy{{Repositories: []string{"infra/*", "prod/*"}, DeleteUntagged: true}}}
	if diff := cmp.Diff(want, c.Storage.SubPaths["/a"].Retention); diff != "" {
		t.Error(diff)
	}
	if r := c.Storage.Retention; r == nil || !r.DryRun || len(r.Policies) != 1 {
		t.Errorf("storage.retention: %+v", r)
	}
}

func TestLetterCase(t *testing.T) {
	want := guide(t, "complete.json").String()
	got := mustParse(t, "x.json", upperKeys(want)).String()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// upperKeys writes every key of indented JSON in capitals.
func upperKeys(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if key, value, ok := strings.Cut(line, `": `); ok {
			lines[i] = strings.ToUpper(key) + `": ` + value
		}
	}
	return strings.Join(lines, "\n")
}

func TestWeakTypes(t *testing.T) {
	c := mustParse(t, "x.json", `{
		"storage": {"dedupe": "false", "gc": 0, "gcDelay": 90000000000, "maxRepos": "12", "gcInterval": "90s", "commit": "false",
			"storageDriver": {"Name": "s3", "Bucket": "b", "region": "r", "ForcePathStyle": true, "chunkSize": 5242880},
			"cacheDriver": {"opt": {"A": [1.5, null]}}},
		"http": {"port": 5000, "compat": "Docker2s2", "realm": 12,
			"accessControl": {"repositories": {"A/**": {"anonymousPolicy": "read,CREATE"}}, "groups": {"Devs": {"users": "x"}}}},
		"extensions": {"sync": {"registries": {"urls": "https://a,https://b", "reqPerSec": "2.5", "tlsVerify": "0"}}},
		"services": {"metadata": {"address": "ipv4:10.0.0.1:1,10.0.0.2:2"}, "blobstore": {"address": ["a:1", "b:2"]}},
		"scheduler": {"numWorkers": 4.0}
	}`)
	r := c.Extensions.Sync.Registries[0]
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"dedupe", c.Storage.Dedupe, false},
		{"gc", c.Storage.GC, false},
		{"gcDelay", c.Storage.GCDelay, 90 * time.Second},
		{"gcInterval", c.Storage.GCInterval, 90 * time.Second},
		{"durable", c.Storage.Durable(), false},
		{"maxRepos", c.Storage.MaxRepos, 12},
		{"driver", c.Storage.StorageDriver, Driver{"name": "s3", "bucket": "b", "region": "r", "forcepathstyle": true, "chunksize": int64(5242880)}},
		{"free map", c.Storage.CacheDriver, Driver{"opt": map[string]any{"a": []any{1.5, nil}}}},
		{"port", c.HTTP.Port, "5000"},
		{"compat", c.HTTP.Compat, []string{"docker2s2"}},
		{"realm", c.HTTP.Realm, "12"},
		{"anonymous", c.HTTP.AccessControl.Repositories["a/**"].AnonymousPolicy, []string{"read", "create"}},
		{"groups", c.HTTP.AccessControl.Groups["devs"].Users, []string{"x"}},
		{"urls", r.URLs, []string{"https://a", "https://b"}},
		{"reqPerSec", r.ReqPerSec, 2.5},
		{"tlsVerify", r.TLSVerify, false},
		{"one address", c.Services.Metadata.Address, []string{"ipv4:10.0.0.1:1,10.0.0.2:2"}},
		{"addresses", c.Services.Blobstore.Address, []string{"a:1", "b:2"}},
		{"numWorkers", c.Scheduler.NumWorkers, 4},
	} {
		if diff := cmp.Diff(check.want, check.got); diff != "" {
			t.Errorf("%s: %s", check.what, diff)
		}
	}
}

func TestAbsenceCounts(t *testing.T) {
	for _, test := range []struct {
		text            string
		durable, docker bool
	}{
		{`{"log":{}}`, true, true},
		{`{"storage":{"commit":null},"http":{"compat":null}}`, true, true},
		{`{"storage":{"commit":true},"http":{"compat":["docker2s2"]}}`, true, true},
		{`{"storage":{"commit":false},"http":{"compat":[]}}`, false, false},
	} {
		c := mustParse(t, "x.json", test.text)
		if c.Storage.Durable() != test.durable || c.HTTP.AcceptsDocker() != test.docker {
			t.Errorf("%s: durable %v, docker %v", test.text, c.Storage.Durable(), c.HTTP.AcceptsDocker())
		}
	}
}

func TestComments(t *testing.T) {
	c := mustParse(t, "x.json", `// a comment, with "a quote
{ /* one
  over two lines */ "storage": {"rootDirectory": "/a//b/*c*/"}, // "port": 1
  "http": {"realm": "say \"//\" twice", "port": /**/ "1"}
} // the end`)
	if c.Storage.RootDirectory != "/a//b/*c*/" || c.HTTP.Realm != `say "//" twice` || c.HTTP.Port != "1" {
		t.Errorf("got %q, %q, %q", c.Storage.RootDirectory, c.HTTP.Realm, c.HTTP.Port)
	}
}

func TestGivenTwice(t *testing.T) {
	c, warnings, err := Parse("x.json", []byte("{\"log\":{\"level\":\"info\"},\n\"log\":{\"level\":\"error\"}}"), noEnv)
	if err != nil || c.Log.Level != "error" || len(warnings) != 1 || warnings[0].String() != "line 2: log: given twice; the one on line 1 is ignored" {
		t.Errorf("got %v, %v", warnings, err)
	}
}

func TestUnknownKeyInSink(t *testing.T) {
	_, warnings, err := Parse("x.json", []byte(`{"extensions":{"events":{"sinks":[{"colour":1}]}}}`), noEnv)
	if err != nil || len(warnings) != 1 || warnings[0].Key != "extensions.events.sinks[0].colour" {
		t.Errorf("got %v, %v", warnings, err)
	}
}

func TestEnvironment(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"ROOT": "/data", "PORT": "5001", "EMPTY": "", "RAW": "${ROOT}", "ON": "true"}[name]
		return v, ok
	}
	for _, test := range []struct{ in, want string }{
		{"${ROOT}/x", "/data/x"},
		{"a${EMPTY}b${ROOT}", "ab/data"},
		{"$${ROOT}", "${ROOT}"},
		{"$$${ROOT}", "$${ROOT}"},
		{"$ROOT ^v1$ $$", "$ROOT ^v1$ $$"},
		{"${RAW}", "${ROOT}"},
	} {
		c, _, err := Parse("x.json", []byte(`{"storage":{"rootDirectory":"`+test.in+`","gc":"${ON}"},"http":{"port":"${PORT}"}}`), env)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
		} else if c.Storage.RootDirectory != test.want || c.HTTP.Port != "5001" {
			t.Errorf("%s: got %q, port %s", test.in, c.Storage.RootDirectory, c.HTTP.Port)
		}
	}
}
