package access

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// entryOneByOne is entryAt without an index.
func (p *Policy) entryOneByOne(repo string) int {
	return slices.IndexFunc(p.entries, func(e entry) bool { return e.pattern.Match(repo) })
}

// checkIndex compiles patterns, leaving out what is none, and compares the index with
// trying them one by one, for each name.
func checkIndex(t testing.TB, patterns, names []string) (hits int) {
	t.Helper()
	rules := registry.AccessRules{Repositories: make(map[string]registry.RepositoryRules)}
	for _, text := range patterns {
		if _, err := compileEntry(text, registry.RepositoryRules{}, nil); err == nil {
			rules.Repositories[text] = registry.RepositoryRules{}
		}
	}
	p := compiled(t, rules, nil)
	for _, name := range names {
		got, want := p.entryAt(name), p.entryOneByOne(name)
		if got != want {
			text := func(i int) string {
				if i < 0 {
					return "none"
				}
				return p.entries[i].pattern.String()
			}
			t.Fatalf("%q: the index says %q, want %q; patterns %q", name, text(got), text(want), patterns)
		}
		if want >= 0 {
			hits++
		}
	}
	return hits
}

// pieces are what patterns are made of, with all that has a meaning and few letters so
// that texts are parts of each other.
var pieces = []string{
	"a", "b", "ab", "aba", "bab", "ba", "aab", "é", "a-b", "a.b", "/", "/", "/", "**", "**/", "/**", "/**/", "*", "?", "***",
	"[ab]", "[^a]", "[!b/]", "[a", "[]a]", `[\]a]`, "]", "{a,b}", "{a/b,ba}", "{ab/**,b}", "{,a}", "{a,{b,/ab}}", "{", "}", ",", `\a`, `\*`, `\/`, `\{`,
}

func randomPattern(r *rand.Rand) string {
	var b strings.Builder
	if r.IntN(3) == 0 {
		b.WriteString("**")
	}
	for range 1 + r.IntN(6) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func randomName(r *rand.Rand) string {
	parts := make([]string, 1+r.IntN(4))
	for i := range parts {
		for range 1 + r.IntN(4) {
			parts[i] += []string{"a", "b", "ab", "ba", "a-b", "a.b"}[r.IntN(6)]
		}
	}
	return strings.Join(parts, "/")
}

// TestIndexIsThePlainMatcher compares the index with the plain matcher, on patterns and
// names that are made up, and on patterns that were made from names.
func TestIndexIsThePlainMatcher(t *testing.T) {
	rounds, hits, of := 2000, 0, 0
	if testing.Short() {
		rounds = 300
	}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it must repeat
	for range rounds {
		names := make([]string, 20)
		for i := range names {
			names[i] = randomName(r)
		}
		patterns := make([]string, 1+r.IntN(30))
		for i := range patterns {
			if patterns[i] = randomPattern(r); r.IntN(3) == 0 { // the middle of a name
				n := names[r.IntN(len(names))]
				from := r.IntN(len(n))
				patterns[i] = []string{"**", "**/", "*", "**/*", ""}[r.IntN(5)] + n[from:from+1+r.IntN(len(n)-from)] + []string{"", "/**", "*", "*/**", "?"}[r.IntN(5)]
			}
		}
		hits += checkIndex(t, patterns, names)
		of += len(names)
	}
	if hits < of/10 || hits > of*99/100 {
		t.Errorf("%d of %d names were matched: the patterns prove little", hits, of)
	}
}

// FuzzIndex: patterns and names, each on a line.
func FuzzIndex(f *testing.F) {
	f.Add("**/a\n**/ab/**\na*\n{a,b}/c\n**", "a\nb/a\nx/ab/c\nabc")
	f.Add("**/*b*a\n**b\n**/[^a]b\\a", "bba\nb\nxb/ba")
	f.Fuzz(func(t *testing.T, patterns, names string) {
		if len(patterns) > 4096 || len(names) > 4096 {
			return
		}
		checkIndex(t, strings.Split(patterns, "\n"), strings.Split(names, "\n"))
	})
}

// TestIndexOfManyPatterns has as many patterns as no one by one search would bear.
func TestIndexOfManyPatterns(t *testing.T) {
	var patterns, names []string
	for i := range 200 {
		patterns = append(patterns, fmt.Sprintf("**/team%d/**", i), fmt.Sprintf("**/team%d/*/x%d", i, i%7), fmt.Sprintf("*/team%d", i))
		names = append(names, fmt.Sprintf("a/team%d", i), fmt.Sprintf("team%d/b/x%d", i, i%7), fmt.Sprintf("a/b/team%d1/c", i))
	}
	checkIndex(t, patterns, names)
}
