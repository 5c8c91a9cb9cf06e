package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// Condition is a compiled expression.
type Condition interface {
	// Holds reports whether the expression is true for a question. An error means
	// that it has no value, and then it grants nothing.
	Holds(q Question) (bool, error)
}

// Compiler compiles the expression of a [registry.AccessCondition]. It is only
// called while rules are compiled.
type Compiler func(expression string) (Condition, error)

// Question is what an actor wants to do.
type Question struct {
	Actor registry.Actor
	// Groups are all of the actor's, static ones too.
	Groups []string
	Admin  bool // adminPolicy lists the actor
	Action string
	Repo   registry.Name // "" for the store as a whole
	Ref    registry.Reference
}

// Policy is compiled rules. It never changes, and may be used by many goroutines.
// A nil Policy allows everything that a credential is good for.
type Policy struct {
	entries []entry // the one that counts first
	index   index
	admin   *policy
	groups  map[string][]string // by user: names of static groups, lower case
	metrics *registry.MetricsRules
	rules   registry.AccessRules
}

// entry is what one pattern grants.
type entry struct {
	pattern   *glob.Pattern
	policies  []policy
	byDefault registry.Actions
	anonymous registry.Actions
}

type policy struct {
	users      []string
	groups     []string
	actions    registry.Actions
	conditions []condition
}

type condition struct {
	Condition
	text, message string
}

// ErrNoConditions is why rules with conditions are refused if there is no [Compiler].
var ErrNoConditions = errors.New("this program can't evaluate conditions; berth and berth-metadata can")

// Compile returns the policy that rules describe. compile may be nil if they have
// no conditions.
func Compile(rules *registry.AccessRules, compile Compiler) (*Policy, error) {
	if rules == nil {
		return nil, nil //nolint:nilnil // no rules are a policy, too
	}
	p := &Policy{groups: make(map[string][]string), metrics: rules.Metrics, rules: *rules}
	for name, g := range rules.Groups {
		for _, user := range g.Users {
			p.groups[user] = append(p.groups[user], strings.ToLower(name))
		}
	}
	for text, r := range rules.Repositories {
		e, err := compileEntry(text, r, compile)
		if err != nil {
			return nil, fmt.Errorf("repositories.%s: %w", text, err)
		}
		p.entries = append(p.entries, e)
	}
	slices.SortFunc(p.entries, func(a, b entry) int { return compareLength(a.pattern.String(), b.pattern.String()) })
	p.index = newIndex(p.entries)
	if rules.AdminPolicy != nil {
		admin, err := compilePolicy(*rules.AdminPolicy, compile)
		if err != nil {
			return nil, fmt.Errorf("adminPolicy: %w", err)
		}
		p.admin = &admin
	}
	return p, nil
}

// compareLength orders patterns: the longest first, which is the one that counts,
// and of those as long in byte order.
func compareLength(a, b string) int {
	if len(a) != len(b) {
		return len(b) - len(a)
	}
	return strings.Compare(a, b)
}

func compileEntry(text string, r registry.RepositoryRules, compile Compiler) (e entry, err error) {
	if e.pattern, err = glob.Compile(text); err != nil {
		return e, err
	}
	if e.byDefault, err = grantable(r.DefaultPolicy); err != nil {
		return e, fmt.Errorf("defaultPolicy: %w", err)
	}
	if e.anonymous, err = grantable(r.AnonymousPolicy); err != nil {
		return e, fmt.Errorf("anonymousPolicy: %w", err)
	}
	for i, one := range r.Policies {
		c, err := compilePolicy(one, compile)
		if err != nil {
			return e, fmt.Errorf("policies[%d]: %w", i, err)
		}
		e.policies = append(e.policies, c)
	}
	return e, nil
}

func compilePolicy(p registry.AccessPolicy, compile Compiler) (c policy, err error) {
	c.users, c.groups = p.Users, p.Groups
	if c.actions, err = grantable(p.Actions); err != nil {
		return c, err
	}
	for i, one := range p.Conditions {
		if compile == nil {
			return c, ErrNoConditions
		}
		compiled, err := compile(one.Expression)
		if err != nil {
			return c, fmt.Errorf("conditions[%d]: %w", i, err)
		}
		c.conditions = append(c.conditions, condition{compiled, one.Expression, one.Message})
	}
	return c, nil
}

// grantable returns the actions that rules may name: those of zot.
func grantable(names []string) (registry.Actions, error) {
	a, err := registry.ParseActions(names)
	if err != nil {
		return 0, err
	}
	if own := a & (registry.ActList | store); own != 0 {
		return 0, registry.ErrParameterInvalid.With("rules can't grant %s", own)
	}
	return withList(a), nil
}

// withList adds what follows from a: what may be read may be listed.
func withList(a registry.Actions) registry.Actions {
	if a.Has(registry.ActRead) {
		a |= registry.ActList
	}
	return a
}

// Rules returns what the policy was compiled from; nil for a nil policy.
func (p *Policy) Rules() *registry.AccessRules {
	if p == nil {
		return nil
	}
	return &p.rules
}
