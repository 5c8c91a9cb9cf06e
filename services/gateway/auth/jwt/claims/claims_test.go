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
