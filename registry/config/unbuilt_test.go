package config

import (
	"strings"
	"testing"
)

// sample writes a file that uses one key of the table and as little else as
// there can be: the blocks above it, turned on where that takes a word.
func sample(k Key) string {
	value := map[Type]string{
		Object: `{}`, Map: `{}`, List: `[{}]`, Strings: `["x"]`, Addrs: `"x"`, Bool: `true`, Int: `7`, Float: `7.5`,
		Duration: `"7h"`, DriverT: `{"name":"s3"}`, SecretsT: `{"x":"y"}`,
	}[k.Type]
	if value == "" {
		value = `"/x"`
	}
	for _, v := range k.Values {
		if v != "" && k.Type == Strings {
			value = `["` + v + `"]`
		} else if v != "" {
			value = `"` + v + `"`
		}
	}
	if k.when == whenEnabled {
		value = `{"enable":true}`
	}
	steps := strings.Split(k.Path, ".")
	for i := len(steps) - 1; i >= 0; i-- {
		step, list := strings.CutSuffix(steps[i], "[]")
		if list {
			value = "[" + value + "]"
		}
		if step == "*" {
			step = "/x"
		}
		enable := ""
		if i > 0 && steps[i] != "enable" && schema().at(steps[:i]).when == whenEnabled {
			enable = `"enable":true,`
		}
		value = `{` + enable + `"` + step + `":` + value + `}`
	}
	return value
}

// at returns the row of a path.
func (s *spec) at(steps []string) *spec {
	for _, step := range steps {
		name, list := strings.CutSuffix(step, "[]")
		if name == "*" {
			s = s.elem
		} else {
			s = s.keys[strings.ToLower(name)]
		}
		if list {
			s = s.elem
		}
	}
	return s
}

// TestEveryKey holds each key of the table: honoured, warned about, or refused.
func TestEveryKey(t *testing.T) {
	counts := map[Status]int{}
	for _, k := range Keys() {
		text := sample(k)
		p := &parser{file: "x.json", env: noEnv}
		root, err := p.tree([]byte(text))
		if err != nil {
			t.Errorf("%s: %s: %v", k.Path, text, err)
			continue
		}
		c := Defaults()
		c.file = file{name: "x.json", root: root}
		warnings, err := c.Unbuilt(nil)
		refused := err != nil
		var warned, unneeded bool
		for _, w := range warnings {
			warned = warned || strings.HasPrefix(w.Text, "not built yet")
			unneeded = unneeded || strings.HasPrefix(w.Text, "not needed")
		}
		want := k.Status
		switch {
		case k.Type == Object && k.when == byValue, k.Type == Map && k.when == byValue, k.Type == List && k.when == byValue:
			want = Built // an empty block asks for nothing, but the one above it may
			if up := above(k.Path); up != nil {
				want = up.Status
			}
		case k.when == never:
			want = schema().at(strings.Split(parent(k.Path), ".")).Status
		}
		counts[want]++
		if refused != (want == Refused) || warned != (want == Warned) && !alsoWarned(k.Path, want) || unneeded != (want == Unneeded) {
			t.Errorf("%s is %s, but: refused %v, warned %v, not needed %v\n%s", k.Path, want, err, warned, unneeded, text)
		}
		if refused && !strings.Contains(err.Error(), "x.json:1:") {
			t.Errorf("%s: no line in %v", k.Path, err)
		}
	}
	if counts[Built] < 10 || counts[Unneeded] < 10 {
		t.Errorf("keys by status: %v", counts)
	}
}

// above returns the nearest row above that asks for its feature by being there.
func above(p string) *spec {
	for p = parent(p); p != ""; p = parent(p) {
		if s := schema().at(strings.Split(p, ".")); s.when != byValue {
			return s
		}
	}
	return nil
}

// alsoWarned reports whether the block around a key is warned about, too,
// though the key itself is not.
func alsoWarned(p string, want Status) bool {
	up := above(p)
	return up != nil && up.Status == Warned && want != Warned
}

// TestNeverOpenByAccident names what must stop the start for as long as it is
// not built. Who builds a feature removes its lines here and gives its row the
// status Built; turning one of these to Warned is never right.
func TestNeverOpenByAccident(t *testing.T) {
	for _, text := range []string{
		`{"http":{"auth":{"openid":{"providers":{"x":{"keypath":"/k"}}}}}}`,
	} {
		if err := unbuilt(t, text); err == nil {
			t.Errorf("%s is not refused", text)
		}
	}
}

// TestAsksForNothing has refused keys that no feature has to back.
func TestAsksForNothing(t *testing.T) {
	for _, text := range []string{
		`{"http":{"auth":{}}}`,
		`{"http":{"auth":null}}`,
		`{"http":{"auth":{"apikey":false,"failDelay":0}}}`,
		`{"http":{"accessControl":null}}`,
		`{"http":{"tls":{}}}`,
		`{"http":{"tls":{"cert":"a","key":"b"}}}`,
		`{"http":{"tls":{"cert":"","key":""}}}`,
		`{"http":{"ratelimit":{"methods":[]}}}`,
		`{"log":{"audit":""}}`,
		`{"storage":{"storageDriver":{}}}`,
		`{"storage":{"storageDriver":{"name":"local"}}}`,
		`{"storage":{"maxRepos":0}}`,
		`{"storage":{"retention":{"dryRun":false,"policies":[]}}}`,
		`{"storage":{"metadata":{"driver":"sqlite"}}}`,
		`{"storage":{"metadata":{"driver":"postgres","dsn":"x"}}}`,
	} {
		if err := unbuilt(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func unbuilt(t *testing.T, text string, accept ...string) error {
	t.Helper()
	p := &parser{file: "x.json", env: noEnv}
	root, err := p.tree([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	c := Defaults()
	c.file = file{name: "x.json", root: root}
	_, err = c.Unbuilt(accept)
	return err
}

func TestAcceptUnbuilt(t *testing.T) {
	const text = `{"http":{"auth":{"openid":{"providers":{"x":{"keypath":"/k"}}}}}}`
	for _, test := range []struct {
		accept []string
		want   string // in the error; empty: none
	}{
		{nil, "http.auth.openid"},
		{[]string{"http.auth.bearer"}, "http.auth.openid"},
		{[]string{"HTTP.Auth.openid"}, ""},
		{[]string{"http.auth.bearer", "http.auth.openid"}, ""},
		{[]string{"http.auth"}, ""},
		{[]string{"http.auth.o", "http.auth.openid"}, "no such key"},
	} {
		err := unbuilt(t, text, test.accept...)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("accepting %q: got %v, want %q", test.accept, err, test.want)
		}
	}
}

func TestGuideUnbuilt(t *testing.T) {
	warnings, err := guide(t, "complete.json").Unbuilt(nil)
	if err != nil {
		t.Errorf("the guide's whole configuration is refused: %v", err)
	}
	if len(warnings) != 1 {
		t.Errorf("warnings: %v", warnings)
	}
	for _, name := range []string{"minimal.json", "kubernetes.json", "cache.json", "edge.json", "lab.json", "cve.json", "prefetch.json"} {
		if _, err := guide(t, name).Unbuilt(nil); err != nil {
			t.Errorf("%s must start: %v", name, err)
		}
	}
}
