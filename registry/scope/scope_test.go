package scope

import (
	"errors"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]registry.Grant{
		"repo1":                     {Repositories: "repo1", Actions: All},
		"a/**:pull":                 {Repositories: "a/**", Actions: Pull},
		"repository:a/**:pull,push": {Repositories: "a/**", Actions: Pull | Push},
		"a:read,create":             {Repositories: "a", Actions: Pull | registry.ActCreate},
		"**:*":                      {Repositories: "**", Actions: All},
		"registry:catalog:*":        {Repositories: "**", Actions: registry.ActList},
		"{a,b}/*:delete":            {Repositories: "{a,b}/*", Actions: Delete},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":pull", "a:", "a:dance", "a:pull,", "[:pull", "a b:pull", "repository:", "a:b:pull"} {
		if g, err := Parse(text); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%q: %+v, %v", text, g, err)
		}
	}
	if Limit(nil) != nil {
		t.Error("no scopes must be no limit")
	}
	if l := Limit([]string{"["}); l == nil || len(l) != 0 {
		t.Errorf("a scope that can't be read is good for %+v", l)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a/**:pull")
	f.Add("repository:{a,b}:push,delete")
	f.Fuzz(func(t *testing.T, text string) {
		if g, err := Parse(text); err == nil {
			if _, bad := glob.Compile(g.Repositories); bad != nil || g.Actions == registry.NoActions || g.Actions&registry.ActAdmin != 0 {
				t.Errorf("%q: %+v, %v", text, g, bad)
			}
		}
	})
}
