package registry

import (
	"context"
	"strings"
)

// Actions are things that an actor may do with a repository, a set of bits. Their
// names are zot's, and some more.
type Actions uint16

const (
	// ActRead is to pull: manifests, blobs, tags, referrers, and what is told about them.
	ActRead Actions = 1 << iota
	// ActCreate is to push blobs, manifests, and tags that do not exist yet.
	ActCreate
	// ActUpdate is to move tags that exist.
	ActUpdate
	// ActDelete is to delete tags, manifests, blobs and uploads.
	ActDelete
	// ActDetectCollision is no right: with it, a manifest that several tags point to
	// can't be deleted by digest.
	ActDetectCollision
	// ActList is to see a repository's name in lists. Whoever may read it may.
	ActList
	// ActAdmin is to look after the whole store: those whom adminPolicy allows to
	// change something may. It belongs to no repository.
	ActAdmin
	// ActMetrics is to read metrics. It belongs to no repository either.
	ActMetrics

	// NoActions is the empty set.
	NoActions Actions = 0
)

var actionNames = []string{"read", "create", "update", "delete", "detectManifestCollision", "list", "admin", "metrics"}

// Has reports whether all of b is in a.
func (a Actions) Has(b Actions) bool { return a&b == b }

// Names returns the names of a, in the order of the constants.
func (a Actions) Names() []string {
	var names []string
	for i, n := range actionNames {
		if a&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String returns the names of a, divided by commas; "nothing" if there are none.
func (a Actions) String() string {
	if a == 0 {
		return "nothing"
	}
	return strings.Join(a.Names(), ",")
}

// ParseActions returns the set that the names describe, which are matched without
// letter case, or [ErrParameterInvalid].
func ParseActions(names []string) (Actions, error) {
	var a Actions
next:
	for _, n := range names {
		for i, known := range actionNames {
			if strings.EqualFold(n, known) {
				a |= 1 << i
				continue next
			}
		}
		return 0, ErrParameterInvalid.With("there is no action %.40q; there are %s", n, strings.Join(actionNames, ", "))
	}
	return a, nil
}

// Access is the part of [Catalog] that says who may do what.
type Access interface {
	// Allowed returns those of want that a may do in repo, which need not exist, or
	// with the store as a whole if repo is "". It is no error that a may do nothing.
	// What depends on conditions is decided for this request, by what a.Request says;
	// if it is nil, conditions on what may be done in repo count as true: for tokens.
	Allowed(ctx context.Context, a Actor, repo Name, want Actions) (Actions, error)

	// AccessRules returns the rules that hold, nil if there are none. a must be an
	// administrator.
	AccessRules(ctx context.Context, a Actor) (*AccessRules, error)

	// ExplainAccess tells whether whom may do the one action act in repo, and what
	// decides it. a must be an administrator.
	ExplainAccess(ctx context.Context, a, whom Actor, repo Name, ref Reference, act Actions) (AccessDecision, error)

	// ReviewAccess tells what rules would change if they held in place of those that
	// do: for the users that are known here or that either names, in the repositories
	// that are here. It changes nothing. a must be an administrator. nil: no rules.
	// [ErrParameterInvalid] for rules that can't be used.
	ReviewAccess(ctx context.Context, a Actor, rules *AccessRules) (AccessReview, error)
}

// AccessRules are who may do what: zot's http.accessControl.
//
// Of Repositories only the longest pattern that matches a name counts, in bytes;
// of several as long, the first in byte order. Within it an action is granted by a
// policy that lists the user, or else by one that lists a group of his, or else to
// any authenticated user by DefaultPolicy, or to an anonymous one by
// AnonymousPolicy: a user who is known does not inherit that. Then AdminPolicy is
// asked, for all repositories.
type AccessRules struct {
	Repositories map[string]RepositoryRules `json:"repositories,omitempty"` // by pattern, see package glob
	AdminPolicy  *AccessPolicy              `json:"adminPolicy,omitempty"`
	Groups       map[string]AccessGroup     `json:"groups,omitempty"` // by name, lower case
	Metrics      *MetricsRules              `json:"metrics,omitempty"`
}

// RepositoryRules is what one pattern grants.
type RepositoryRules struct {
	Policies        []AccessPolicy `json:"policies,omitempty"`
	DefaultPolicy   []string       `json:"defaultPolicy,omitempty"`   // actions of any known user
	AnonymousPolicy []string       `json:"anonymousPolicy,omitempty"` // actions of nobody in particular
}

// AccessPolicy grants actions to users and groups.
type AccessPolicy struct {
	Users      []string          `json:"users,omitempty"`
	Groups     []string          `json:"groups,omitempty"`
	Actions    []string          `json:"actions,omitempty"`
	Conditions []AccessCondition `json:"conditions,omitempty"` // all must hold
}

// AccessCondition is a CEL expression that must hold for a policy to grant.
type AccessCondition struct {
	Expression string `json:"expression"`
	Message    string `json:"message,omitempty"` // for who is refused because it does not hold
}

// AccessGroup is a static group of users. Its name is matched without letter case.
type AccessGroup struct {
	Users []string `json:"users,omitempty"`
}

// MetricsRules say who may read metrics.
type MetricsRules struct {
	Users           []string `json:"users,omitempty"`
	AnonymousPolicy []string `json:"anonymousPolicy,omitempty"` // "read" lets everybody
}

// Refusal returns the error for an actor who may not do something: [ErrUnauthorized]
// for an anonymous one, [ErrDenied] for one who is known. reason may be "".
func (a Actor) Refusal(reason string) error {
	e := ErrDenied
	if a.Anonymous() {
		e = ErrUnauthorized
	}
	if reason == "" {
		return e
	}
	return e.With("%s", reason)
}
