package identity

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func TestParseScopes(t *testing.T) {
	compare := cmp.AllowUnexported(asked{})
	for text, want := range map[string][]asked{
		"":                            nil,
		"repository:a/b:pull":         {{name: "a/b", words: []string{"pull"}}},
		"repository:a:push,pull,pull": {{name: "a", words: []string{"pull", "push"}}},
		"repository:a:*":              {{name: "a", words: []string{"delete", "pull", "push"}}},
		"repository(plugin):a:pull":   {{name: "a", words: []string{"pull"}}},
		"repository:a:pull repository:b:push": {
			{name: "a", words: []string{"pull"}}, {name: "b", words: []string{"push"}},
		},
		"repository:a:pull repository:a:push": {{name: "a", words: []string{"pull", "push"}}},
		"registry:catalog:*":                  {{catalog: true, words: []string{"*"}}},
		"registry:catalog:pull":               nil,
		"registry:else:*":                     nil,
		"repository:a:dance":                  nil,
		"repository:A:pull":                   nil,
		"repository:**:pull":                  nil,
		"repository:a/../b:pull":              nil,
		"repository:pull":                     nil,
		"repository::pull":                    nil,
		"package:a:pull":                      nil,
		"nonsense":                            nil,
	} {
		got, err := parseScopes([]string{text})
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
	}
	var many []string
	for i := range maxScopes + 1 {
		many = append(many, "repository:r"+strings.Repeat("x", i+1)+":pull")
	}
	if _, err := parseScopes(many); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("too many scopes: %v", err)
	}
	if _, err := parseScopes([]string{strings.Repeat("x", maxScopeText+1)}); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("a long scope: %v", err)
	}
}

func FuzzScopes(f *testing.F) {
	f.Add("repository:a/b:pull,push registry:catalog:*")
	f.Add("repository(x):a:*")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseScopes([]string{text})
		for _, a := range all {
			if err != nil || len(a.words) == 0 {
				t.Errorf("%q: %+v, %v", text, a, err)
			}
			if _, bad := registry.ParseName(string(a.name)); bad != nil && !a.catalog {
				t.Errorf("%q: name %q", text, a.name)
			}
		}
	})
}
