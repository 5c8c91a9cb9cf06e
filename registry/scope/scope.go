// Package scope reads what API keys are limited to.
package scope

import (
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// Rights by the words of docker's scopes (distribution, "Token Scope
// Documentation"). Whoever may read a repository may see its name.
const (
	Pull   = registry.ActRead | registry.ActList
	Push   = registry.ActCreate | registry.ActUpdate
	Delete = registry.ActDelete
	All    = Pull | Push | Delete
)

// Rights returns what a word allows, nothing if it is unknown. zot's words are
// understood, too.
func Rights(word string) registry.Actions {
	switch word {
	case "*":
		return All
	case "pull", "read":
		return Pull
	case "push":
		return Push
	case "create":
		return registry.ActCreate
	case "update":
		return registry.ActUpdate
	case "delete":
		return Delete
	}
	return registry.NoActions
}

// Parse reads a scope of an API key: "[repository:]PATTERN[:action,...]", where
// PATTERN is one of access control and the actions are pull, push and delete, zot's
// read, create, update and delete, or "*", which is what a scope without actions
// means; or "registry:catalog:*", which lets all names be listed.
func Parse(text string) (registry.Grant, error) {
	bad := func(why string) (registry.Grant, error) {
		return registry.Grant{}, registry.ErrParameterInvalid.With("scope %.60q: %s", text, why)
	}
	if text == "registry:catalog:*" {
		return registry.Grant{Repositories: "**", Actions: registry.ActList}, nil
	}
	pattern := strings.TrimPrefix(text, "repository:")
	rights := All
	if colon := strings.LastIndexByte(pattern, ':'); colon >= 0 {
		rights = registry.NoActions
		for w := range strings.SplitSeq(pattern[colon+1:], ",") {
			r := Rights(strings.TrimSpace(w))
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

// Limit returns what a credential with these scopes is good for: nil, which is no
// limit, for one without any. A scope that can't be read allows nothing.
func Limit(scopes []string) []registry.Grant {
	if len(scopes) == 0 {
		return nil
	}
	limit := make([]registry.Grant, 0, len(scopes))
	for _, s := range scopes {
		if g, err := Parse(s); err == nil {
			limit = append(limit, g)
		}
	}
	return limit
}
