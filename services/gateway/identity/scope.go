package identity

import (
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
)

// scopeWords are the actions of docker's scopes, in the order in which tokens have
// them.
var scopeWords = []struct {
	word   string
	rights registry.Actions
}{
	{"delete", scope.Delete},
	{"pull", scope.Pull},
	{"push", scope.Push},
}

// Bounds of what a client may ask for at once.
const (
	maxScopes    = 100
	maxScopeText = 4 << 10 // bytes of each parameter
)

// asked is one resource of a token request.
type asked struct {
	catalog bool // registry:catalog:*
	name    registry.Name
	words   []string // known ones, in order, each once
}

// parseScopes reads the scope parameters of a token request: each holds scopes
// "type:name:action,action" divided by spaces. Those of unknown types, of names
// that no repository can have, and unknown actions are left out, as docker's token
// specification has it: the token says what it is good for. Too many are an error.
func parseScopes(params []string) ([]asked, error) {
	var all []asked
	for _, p := range params {
		if len(p) > maxScopeText {
			return nil, registry.ErrParameterInvalid.With("a scope has at most %d bytes", maxScopeText)
		}
		for text := range strings.FieldsSeq(p) {
			a, ok := parseScope(text)
			if !ok {
				continue
			}
			if i := slices.IndexFunc(all, func(o asked) bool { return o.catalog == a.catalog && o.name == a.name }); i >= 0 {
				all[i].words = merge(all[i].words, a.words)
				continue
			}
			if len(all) == maxScopes {
				return nil, registry.ErrParameterInvalid.With("at most %d scopes in one request", maxScopes)
			}
			all = append(all, a)
		}
	}
	return all, nil
}

// parseScope reads one scope. The name may hold colons: a host's port.
func parseScope(text string) (asked, bool) {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok {
		return asked{}, false
	}
	kind, _, _ = strings.Cut(kind, "(") // a class: repository(plugin)
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return asked{}, false
	}
	name, actions := rest[:colon], strings.Split(rest[colon+1:], ",")
	if kind == "registry" {
		return asked{catalog: true, words: []string{"*"}}, name == "catalog" && slices.Contains(actions, "*")
	}
	if kind != "repository" {
		return asked{}, false
	}
	repo, err := registry.ParseName(name)
	if err != nil {
		return asked{}, false
	}
	a := asked{name: repo}
	for _, w := range actions {
		switch w {
		case "*":
			a.words = merge(a.words, []string{"delete", "pull", "push"})
		case "pull", "push", "delete":
			a.words = merge(a.words, []string{w})
		}
	}
	return a, len(a.words) > 0
}

func merge(a, b []string) []string {
	a = append(slices.Clone(a), b...)
	slices.Sort(a)
	return slices.Compact(a)
}
