package access

import (
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// Allowed returns those of want that a may do in repo, or with the store as a whole
// if repo is "". In a repository, conditions count as true for an actor whose
// Request is nil: whoever asks for a token does not know yet what he will do with it.
func (p *Policy) Allowed(a registry.Actor, repo registry.Name, want registry.Actions) registry.Actions {
	got := want & InScope(a, repo)
	if p.untold(a) {
		return registry.NoActions
	}
	if p == nil || a.System || got == 0 {
		return got &^ registry.ActDetectCollision
	}
	var may registry.Actions
	d := p.decision(a, repo, registry.Reference{})
	d.early = a.Request == nil && repo != ""
	for bit := registry.Actions(1); bit <= got; bit <<= 1 {
		if got&bit != 0 && d.grants(bit) {
			may |= bit
		}
	}
	return may
}

// untold reports whether there should be rules for a, and there are none.
func (p *Policy) untold(a registry.Actor) bool { return p == nil && a.Ruled && !a.System }

// Allow returns nil if a may do all of act, or else the error to refuse it with:
// [registry.ErrUnauthorized] for an anonymous actor, [registry.ErrDenied] for a
// known one. ref is what the request names in repo, if it does; with both fields it is
// the digest of a manifest that a tag goes with.
func (p *Policy) Allow(a registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) error {
	if a.Scope != nil && !InScope(a, repo).Has(act) {
		return a.Refusal("the credential is not good for " + act.String() + " here")
	}
	if p.untold(a) {
		return registry.ErrUnavailable.With("access rules (http.accessControl) must say who may do this, and the catalog was started without any")
	}
	if p == nil || a.System {
		return nil
	}
	d := p.decision(a, repo, ref)
	for bit := registry.Actions(1); bit <= act; bit <<= 1 {
		if act&bit != 0 && !d.grants(bit) {
			return a.Refusal(d.message)
		}
	}
	return nil
}

// Conditional reports whether what may be done in repo can depend on the tag: there are
// conditions. What removes tags without a name for each has to ask for each of them then.
func (p *Policy) Conditional(repo registry.Name) bool {
	if p == nil {
		return false
	}
	has := func(q policy) bool { return len(q.conditions) > 0 }
	if p.admin != nil && has(*p.admin) {
		return true
	}
	i := p.entryAt(string(repo))
	return i >= 0 && slices.ContainsFunc(p.entries[i].policies, has)
}

// DetectsCollision reports whether the rules give a [registry.ActDetectCollision] in
// repo. It takes something away, so that a credential's scope has no say in it.
func (p *Policy) DetectsCollision(a registry.Actor, repo registry.Name) bool {
	if p == nil || a.System {
		return false
	}
	return p.decision(a, repo, registry.Reference{}).grants(registry.ActDetectCollision)
}

// all is every action.
const all = registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete | registry.ActDetectCollision | registry.ActList | store

// store are the actions that belong to no repository.
const store = registry.ActAdmin | registry.ActMetrics

// InScope returns what a's credential is good for in repo, whatever its owner may do.
func InScope(a registry.Actor, repo registry.Name) registry.Actions {
	if a.Scope == nil {
		return all
	}
	var good registry.Actions
	for _, g := range a.Scope {
		switch {
		case repo == "":
			if g.Repositories == "**" {
				good |= g.Actions & store
			}
		case g.Actions&^good != 0 && glob.Match(g.Repositories, string(repo)):
			good |= withList(g.Actions)
		}
	}
	return good
}

// decision is what is known while one question is answered.
type decision struct {
	policy *Policy
	q      Question
	entry  *entry
	// message is that of the first condition that did not hold, if nothing was granted.
	message string
	// early reports that conditions can't be known yet, and count as true.
	early bool
}

func (p *Policy) decision(a registry.Actor, repo registry.Name, ref registry.Reference) *decision {
	d := &decision{policy: p, q: Question{Actor: a, Groups: a.Groups, Repo: repo, Ref: ref}}
	if !a.Anonymous() {
		if static := p.groups[a.ID]; static != nil {
			d.q.Groups = slices.Concat(a.Groups, static)
		}
	}
	if p.admin != nil && p.admin.lists(d) {
		d.q.Admin = true
	}
	if repo != "" {
		if i := p.entryAt(string(repo)); i >= 0 {
			d.entry = &p.entries[i]
		}
	}
	return d
}

// grants reports whether the one action may be done.
func (d *decision) grants(act registry.Actions) bool {
	switch {
	case act == registry.ActMetrics:
		return d.scrapes()
	case act == registry.ActAdmin || d.q.Repo == "":
		return d.administers()
	}
	asked := act
	if act == registry.ActList {
		asked = registry.ActRead
	}
	d.q.Action = asked.String()
	if e := d.entry; e != nil {
		if d.anyOf(e, act, (*policy).namesUser) || d.anyOf(e, act, (*policy).namesGroup) {
			return true
		}
		granted := e.byDefault
		if d.q.Actor.Anonymous() {
			granted = e.anonymous
		}
		if granted.Has(act) {
			return true
		}
	}
	return d.q.Admin && d.policy.admin.actions.Has(act) && d.holds(d.policy.admin)
}

// anyOf reports whether a policy of the entry that names the actor in one way
// grants an action.
func (d *decision) anyOf(e *entry, act registry.Actions, names func(*policy, *decision) bool) bool {
	if d.q.Actor.Anonymous() {
		return false
	}
	for i := range e.policies {
		if p := &e.policies[i]; p.actions.Has(act) && names(p, d) && d.holds(p) {
			return true
		}
	}
	return false
}

// changes are the actions of which an administrator must have one.
const changes = registry.ActCreate | registry.ActUpdate | registry.ActDelete

func (d *decision) administers() bool {
	d.q.Action = registry.ActAdmin.String()
	return d.q.Admin && d.policy.admin.actions&changes != 0 && d.holds(d.policy.admin)
}

// lists reports whether the policy names the actor.
func (p *policy) lists(d *decision) bool {
	return !d.q.Actor.Anonymous() && (p.namesUser(d) || p.namesGroup(d))
}

func (p *policy) namesUser(d *decision) bool { return slices.Contains(p.users, d.q.Actor.ID) }

// namesGroup compares the names of static groups without letter case: the config
// file keeps them in lower case, as zot does.
func (p *policy) namesGroup(d *decision) bool {
	static := d.policy.groups[d.q.Actor.ID]
	return slices.ContainsFunc(p.groups, func(g string) bool {
		return slices.Contains(d.q.Actor.Groups, g) || static != nil && slices.Contains(static, strings.ToLower(g))
	})
}

// holds reports whether all conditions of a policy are true.
func (d *decision) holds(p *policy) bool {
	if d.early {
		return true
	}
	for _, c := range p.conditions {
		ok, err := c.Holds(d.q)
		if err == nil && ok {
			continue
		}
		if err == nil && d.message == "" {
			d.message = c.message
		}
		return false
	}
	return true
}

// scrapes reports whether metrics may be read: by whom accessControl.metrics lists,
// by administrators, and by everybody if its anonymousPolicy has "read".
func (d *decision) scrapes() bool {
	m, a := d.policy.metrics, d.q.Actor
	if m != nil && (slices.Contains(m.AnonymousPolicy, registry.ActRead.String()) || !a.Anonymous() && slices.Contains(m.Users, a.ID)) {
		return true
	}
	return d.administers()
}
