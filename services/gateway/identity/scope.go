package identity

import (
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// Rights by the words of docker's scopes (distribution, "Token Scope
// Documentation"). Whoever may read a repository may see its name.
const (
	pullRights   = registry.ActRead | registry.ActList
	pushRights   = registry.ActCreate | registry.ActUpdate
	deleteRights = registry.ActDelete
	allRights    = pullRights | pushRights | deleteRights
)

var scopeWords = []struct {
	word   string
	rights registry.Actions
}{
	{"delete", deleteRights},
	{"pull", pullRights},
	{"push", pushRights},
}

// rightsOf returns what a word allows, nothing if it is unknown. zot's words are
// understood, too.
func rightsOf(word string) registry.Actions {
	switch word {
	case "*":
		return allRights
	case "pull", "read":
		return pullRights
	case "push":
		return pushRights
	case "create":
		return registry.ActCreate
	case "update":
		return registry.ActUpdate
	case "delete":
		return deleteRights
	}
	return registry.NoActions
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
		if w == "*" {
			a.words = merge(a.words, []string{"delete", "pull", "push"})
		} else if w == "pull" || w == "push" || w == "delete" {
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

// ParseKeyScope reads a scope of an API key: "[repository:]PATTERN[:action,...]",
// where PATTERN is one of access control and the actions are pull, push and delete,
// zot's read, create, update and delete, or "*", which is what a scope without
// actions means; or "registry:catalog:*", which lets all names be listed.
func ParseKeyScope(text string) (registry.Grant, error) {
	bad := func(why string) (registry.Grant, error) {
		return registry.Grant{}, registry.ErrParameterInvalid.With("scope %.60q: %s", text, why)
	}
	if text == "registry:catalog:*" {
		return registry.Grant{Repositories: "**", Actions: registry.ActList}, nil
	}
	pattern := strings.TrimPrefix(text, "repository:")
	rights := allRights
	if colon := strings.LastIndexByte(pattern, ':'); colon >= 0 {
		rights = registry.NoActions
		for w := range strings.SplitSeq(pattern[colon+1:], ",") {
			r := rightsOf(strings.TrimSpace(w))
			if r == registry.NoActions {
				return bad("the actions are pull, push, delete and *")
			}
			rights |= r
		}
		pattern = pattern[:colon]
	}
	if pattern == "" || strings.ContainsAny(pattern, ": ") {
		return bad("it must be PATTERN or PATTERN:ACTION,...")
	}
	if _, err := glob.Compile(pattern); err != nil {
		return bad(err.Error())
	}
	return registry.Grant{Repositories: pattern, Actions: rights}, nil
}

// limitOf returns what a credential with these scopes is good for: nil for one
// without any. A scope that can't be read allows nothing.
func limitOf(scopes []string) []registry.Grant {
	if len(scopes) == 0 {
		return nil
	}
	limit := make([]registry.Grant, 0, len(scopes))
	for _, s := range scopes {
		if g, err := ParseKeyScope(s); err == nil {
			limit = append(limit, g)
		}
	}
	return limit
}
