package glob

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct{ pattern, yes, no string }{
		{"a", "a", "b aa a/a ab"},
		{"*", "a abc v1.0", "a/b"},
		{"**", "a a/b a/b/c", ""},
		{"a/**", "a a/b a/b/c", "ab ab/c b/a"},
		{"**/a", "a b/a c/b/a", "ba b/ba a/b"},
		{"a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb a/b/c"},
		{"a/*", "a/b", "a a/b/c"},
		{"a**", "a ab", "a/b"},
		{"**a", "a ba", "b/a"},
		{"team-*/app", "team-a/app team-/app", "team-a/b/app team/app"},
		{"v?", "v1 vx", "v v10 v/"},
		{"v[0-9]", "v0 v9", "va v10"},
		{"v[^0-9]", "va", "v1 v/ v"},
		{"v[!0-9]", "va", "v1"},
		{"{a,b/c}/**", "a b/c a/x b/c/x/y", "b c b/x"},
		{"{a/**,b}", "a a/x b", "b/x"},
		{"x/{**,a}", "x/a x/b/c", "y"},
		{"{a,}b", "ab b", "a aab"},
		{"a,b", "a,b", "a b"},
		{`a\*`, "a*", "ab"},
		{`a.b+`, "a.b+", "axb a.bb"},
		{"ä*", "ä äb", "a"},
		{"***", "a", "a/b"},
		{"prod/**/{api,web}-*", "prod/api-1 prod/x/web-2", "prod/db-1 api-1"},
	} {
		p, err := Compile(test.pattern)
		if err != nil {
			t.Errorf("%q: %v", test.pattern, err)
			continue
		}
		for _, name := range strings.Fields(test.yes) {
			if !p.Match(name) {
				t.Errorf("%q does not match %q", test.pattern, name)
			}
		}
		for _, name := range strings.Fields(test.no) {
			if p.Match(name) {
				t.Errorf("%q matches %q", test.pattern, name)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, pattern := range []string{"", "[", "[]", "[a", "{a", "a}", `a\`, "[z-a]", "a[^]", strings.Repeat("a", MaxPattern+1), "\xff["} {
		if p, err := Compile(pattern); err == nil {
			t.Errorf("%q is taken for a pattern: %s", pattern, p.re)
		}
	}
}

func TestSet(t *testing.T) {
	s, err := CompileAll([]string{"a/**", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Match("a/x") || !s.Match("b") || s.Match("c") || Set(nil).Match("a") {
		t.Error("a set matches what one of its patterns matches")
	}
	if p := s.Find("b"); p == nil || p.String() != "b" || s.Find("c") != nil {
		t.Errorf("Find: got %v, want b", p)
	}
	if _, err := CompileAll([]string{"a", "["}); err == nil || !strings.Contains(err.Error(), `"["`) {
		t.Errorf("the error does not name the pattern: %v", err)
	}
}

// No text panics or matches what has a slash where only ** may have one.
// TestS117Patterns: long patterns are refused, and what is not matches in time that is
// linear in the name: twice the name is not four times the work. Steps are counted
// by the length of the expression, which the matcher visits once for each byte.
func TestS117Patterns(t *testing.T) {
	for _, bad := range []string{
		strings.Repeat("**/", 4000) + "a", strings.Repeat("a", MaxPattern+1), "(a{1000}){1000" + strings.Repeat("}", 2), strings.Repeat("{", 100) + "a",
	} {
		if _, err := Compile(bad); err == nil {
			t.Errorf("%.40q… (%d bytes) is taken for a pattern", bad, len(bad))
		}
	}
	for _, text := range []string{
		strings.Repeat("**/", 50) + "a", strings.Repeat("*a", 50), strings.Repeat("{a,aa}", 50), strings.Repeat("*", 500) + "b", strings.Repeat("{a,", 30) + "b" + strings.Repeat("}", 30),
	} {
		p, err := Compile(text)
		if err != nil {
			t.Errorf("%.40q: %v", text, err)
			continue
		}
		name := strings.Repeat("a", 255)
		if !strings.HasSuffix(text, "a") {
			name += "c"
		}
		_ = p.Match(name) // it ends: with backtracking it would not in this life
		_ = p.Match(strings.Repeat("a/", 127) + "c")
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"a/**", "{a,b}/*", "[a-z]?", `\*`, "**/x/**", "{{a,b},c}", "[^/]", "a", "**", "a/b*", `a\/b*`, "[]a]b*", "x{a}/**"} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := Compile(pattern)
		if err != nil {
			return
		}
		// What is faster must say the same.
		re, err := expression(pattern)
		if err != nil {
			t.Fatalf("%q has no expression: %v", pattern, err)
		}
		yes := re.MatchString(name)
		if p.Match(name) != yes || Match(pattern, name) != yes || yes && !strings.HasPrefix(name, p.Prefix()) {
			t.Errorf("%q and %q: the expression says %v; needs %q, prefix %q", pattern, name, yes, p.need, p.Prefix())
		}
		if p.Match(name) && !strings.Contains(pattern, "**") && !strings.ContainsAny(pattern, `[/`) && strings.Contains(name, "/") {
			t.Errorf("%q matches %q", pattern, name)
		}
	})
}
