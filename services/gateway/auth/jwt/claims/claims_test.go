package claims

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/config"
)

func TestMap(t *testing.T) {
	claims := map[string]any{"sub": "s", "email": "a@b.example", "n": json.Number("5"), "repository": "org/app", "repository_owner": "org", "ref": "refs/heads/main",
		"groups": []any{"x", "y"}, "kubernetes.io/serviceaccount/namespace": "ci", "nested": map[string]any{"k": []any{"v"}}}
	for name, test := range map[string]struct {
		rules  config.ClaimRules
		user   string
		groups []string
		err    string
	}{
		"claims":   {config.ClaimRules{Username: "claims.email.split('@')[0]", Groups: "claims.groups"}, "a", []string{"x", "y"}, ""},
		"escapes":  {config.ClaimRules{Username: "claims['kubernetes.io/serviceaccount/namespace'] + ':' + claims.nested.k[0]"}, "ci:v", nil, ""},
		"numbers":  {config.ClaimRules{Username: "claims.n == 5 ? 'five' : 'other'"}, "five", nil, ""},
		"no group": {config.ClaimRules{Groups: "[]"}, "", []string{}, ""},
		"variables": {config.ClaimRules{
			Variables:   []config.ClaimVariable{{Name: "owner", Expression: "claims.repository_owner"}, {Name: "both", Expression: "vars.owner + '/x'"}},
			Validations: []config.ClaimValidation{{Expression: "vars.owner == 'org'"}, {Expression: "claims.ref.startsWith('refs/heads/')"}},
			Username:    "vars.both", Groups: "['ci', vars.owner]",
		}, "org/x", []string{"ci", "org"}, ""},
		"does not hold":      {config.ClaimRules{Validations: []config.ClaimValidation{{Expression: "claims.sub == 'x'", Message: "only x"}}}, "", nil, "only x"},
		"no such claim":      {config.ClaimRules{Validations: []config.ClaimValidation{{Expression: "claims.nothing == 'x'"}}}, "", nil, "no such key"},
		"not true or false":  {config.ClaimRules{Validations: []config.ClaimValidation{{Expression: "claims.sub"}}}, "", nil, "does not hold"},
		"no name":            {config.ClaimRules{Username: "claims.nothing"}, "", nil, "username"},
		"an empty name":      {config.ClaimRules{Username: "''"}, "", nil, "username"},
		"a name of a number": {config.ClaimRules{Username: "claims.n"}, "", nil, "username"},
		"groups of text":     {config.ClaimRules{Groups: "claims.sub"}, "", nil, "groups"},
		"groups of numbers":  {config.ClaimRules{Groups: "[1]"}, "", nil, "groups"},
		"costly":             {config.ClaimRules{Groups: "lists.range(1000).map(i, lists.range(1000).map(j, string(i)))[0]"}, "", nil, "groups"},
	} {
		r, err := Compile(test.rules)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		user, groups, err := r.Map(claims)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %v, want %q", name, err, test.err)
		}
		if err == nil && (user != test.user || !cmp.Equal(groups, test.groups)) {
			t.Errorf("%s: got %q, %q", name, user, groups)
		}
	}
}

func TestS117CompileRefuses(t *testing.T) {
	for name, rules := range map[string]config.ClaimRules{
		"not CEL": {Username: "claims."},
		"unknown": {Username: "os.getenv('HOME')"},
		"long":    {Username: "'" + strings.Repeat("x", maxExpression) + "'"},
		"deep":    {Username: strings.Repeat("(", 100) + "'x'" + strings.Repeat(")", 100)},
		"no name": {Variables: []config.ClaimVariable{{Expression: "1"}}},
		"many":    {Validations: make([]config.ClaimValidation, maxRules+1)},
	} {
		if r, err := Compile(rules); err == nil {
			t.Errorf("%s: got %v", name, r)
		}
	}
}

// FuzzMap: whatever an expression and the claims of a token are, there is a name and a
// bounded number of groups, or the token is refused; and the same each time.
func FuzzMap(f *testing.F) {
	for _, expression := range []string{"claims.sub", "claims.email.split('@')[0]", "claims.n + 1 > 2 ? 'a' : 'b'", "claims.groups.map(g, g + g).join(',')", `claims.sub.matches("(a|aa)+$") ? 'x' : 'y'`, "vars.v", "[claims.sub]"} {
		f.Add(expression, `{"sub":"s","email":"a@b.example","n":5,"groups":["x","y"]}`)
		f.Add(expression, `{"sub":{"sub":[null,1e308,-0,"\u0000"]},"n":99999999999999999999}`)
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		r, err := Compile(config.ClaimRules{
			Variables: []config.ClaimVariable{{Name: "v", Expression: expression}}, Validations: []config.ClaimValidation{{Expression: "has(vars.v) || true"}},
			Username: expression, Groups: expression,
		})
		if err != nil {
			return
		}
		names, err := Compile(config.ClaimRules{Username: expression})
		if err != nil {
			t.Fatalf("%q compiles in one place only: %v", expression, err)
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber() // as tokens are read
		var claims map[string]any
		if decoder.Decode(&claims) != nil {
			return
		}
		if _, groups, err := r.Map(claims); err == nil && len(groups) > maxGroups {
			t.Errorf("%d groups", len(groups))
		}
		user, _, err := names.Map(claims)
		if err == nil && user == "" {
			t.Error("a token without a name is accepted")
		}
		if again, _, err2 := names.Map(claims); again != user || (err == nil) != (err2 == nil) {
			t.Errorf("%q, %v and then %q, %v", user, err, again, err2)
		}
	})
}
