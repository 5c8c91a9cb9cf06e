package access

import (
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// Viewer says which repositories an actor may see in lists. It is for one request
// and one goroutine.
type Viewer struct {
	policy *Policy
	actor  registry.Actor
	known  []verdict // by entry
	scope  []*glob.Pattern
	// ranges are what the names that may be seen begin with, by the rules and by the
	// credential.
	ranges, scoped ranges
}

// verdict is what is known of an entry.
type verdict uint8

const (
	unknown verdict = iota
	visible
	hidden
	depends // on conditions
)

// Viewer returns what a may see.
func (p *Policy) Viewer(a registry.Actor) *Viewer {
	v := &Viewer{policy: p, actor: a, ranges: ranges{""}, scoped: ranges{""}}
	if a.Scope != nil {
		v.scoped = nil
		for _, g := range a.Scope {
			if !withList(g.Actions).Has(registry.ActList) {
				continue
			}
			if pattern, err := glob.Compile(g.Repositories); err == nil {
				v.scope = append(v.scope, pattern)
				v.scoped = append(v.scoped, pattern.Prefix())
			}
		}
		v.scoped = v.scoped.minimal()
	}
	if p == nil || a.System {
		if v.policy = nil; p.untold(a) {
			v.ranges = nil
		}
		return v
	}
	d := p.decision(a, "", registry.Reference{})
	admin := unknown
	if d.q.Admin && p.admin.actions.Has(registry.ActRead) {
		admin = visible
		if len(p.admin.conditions) > 0 {
			admin = depends
		}
	}
	v.known = make([]verdict, len(p.entries))
	v.ranges = nil
	if admin != unknown {
		v.ranges = ranges{""}
	}
	for i := range p.entries {
		e := &p.entries[i]
		v.known[i] = e.verdict(d)
		if v.known[i] == hidden && admin != unknown || v.known[i] == depends && admin == visible {
			v.known[i] = admin
		}
		if v.known[i] != hidden {
			v.ranges = append(v.ranges, e.pattern.Prefix())
		}
	}
	v.ranges = v.ranges.minimal()
	return v
}

// verdict returns what an entry says of seeing a name, admins aside.
func (e *entry) verdict(d *decision) verdict {
	if d.q.Actor.Anonymous() {
		if e.anonymous.Has(registry.ActList) {
			return visible
		}
		return hidden
	}
	if e.byDefault.Has(registry.ActList) {
		return visible
	}
	says := hidden
	for i := range e.policies {
		p := &e.policies[i]
		if !p.actions.Has(registry.ActList) || !p.lists(d) {
			continue
		}
		if len(p.conditions) == 0 {
			return visible
		}
		says = depends
	}
	return says
}

// Sees reports whether a name may be seen.
func (v *Viewer) Sees(repo registry.Name) bool {
	if v.actor.Scope != nil && !glob.Set(v.scope).Match(string(repo)) {
		return false
	}
	if v.policy == nil {
		return v.ranges != nil
	}
	i := v.policy.entryAt(string(repo))
	if i >= 0 && v.known[i] != depends {
		return v.known[i] == visible
	}
	return v.policy.decision(v.actor, repo, registry.Reference{}).grants(registry.ActList)
}

// Next returns the first name at or behind from that may be seen, as far as the
// rules tell without a look at the names there are; not ok if there is none.
func (v *Viewer) Next(from registry.Name) (at registry.Name, ok bool) {
	s := string(from)
	for {
		a, ok := v.ranges.next(s)
		if !ok {
			return "", false
		}
		b, ok := v.scoped.next(a)
		if !ok {
			return "", false
		}
		if b == s {
			return registry.Name(s), true
		}
		s = b
	}
}

// ranges are sorted texts of which none begins with another: the names that begin
// with one of them.
type ranges []string

// minimal sorts r and leaves out what is in another range.
func (r ranges) minimal() ranges {
	slices.Sort(r)
	var out ranges
	for _, s := range r {
		if n := len(out); n == 0 || !strings.HasPrefix(s, out[n-1]) {
			out = append(out, s)
		}
	}
	return out
}

// next returns from if it is in a range, else where the first range behind it begins.
func (r ranges) next(from string) (string, bool) {
	i, found := slices.BinarySearch(r, from)
	if found || i > 0 && strings.HasPrefix(from, r[i-1]) {
		return from, true
	}
	if i == len(r) {
		return "", false
	}
	return r[i], true
}
