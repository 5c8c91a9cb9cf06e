package access

import (
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Decision is whether an actor may do something, and why.
type Decision = registry.AccessDecision

// Explain tells whether a may do the one action act in repo, and what decides it. It
// says what [Policy.Allow] does.
func (p *Policy) Explain(a registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) Decision {
	if p == nil {
		return Decision{Allowed: true, Because: "there are no access rules: whoever gets past authentication may do everything"}
	}
	d := p.decision(a, repo, ref)
	refused := Decision{Because: "no pattern matches the repository"}
	if d.entry != nil {
		at := "repositories." + d.entry.pattern.String()
		if rule, because := d.explainEntry(at, act); rule != "" {
			return Decision{Allowed: true, Rule: rule, Because: because}
		}
		refused.Because = fmt.Sprintf("%s is the longest pattern that matches, and grants nobody like this %s", d.entry.pattern, act)
	}
	if d.grants(act) {
		return Decision{Allowed: true, Rule: "adminPolicy", Because: "adminPolicy lists the user, or a group of his"}
	}
	if d.message != "" {
		refused.Because += "; a condition does not hold: " + d.message
	}
	return refused
}

// explainEntry returns what of an entry grants the action, in the order of
// [decision.grants].
func (d *decision) explainEntry(at string, act registry.Actions) (rule, because string) {
	d.q.Action = act.String()
	e := d.entry
	for _, by := range []struct {
		what  string
		names func(*policy, *decision) bool
	}{{"lists the user", (*policy).namesUser}, {"lists a group of the user: " + strings.Join(d.q.Groups, ", "), (*policy).namesGroup}} {
		for i := range e.policies {
			if p := &e.policies[i]; !d.q.Actor.Anonymous() && p.actions.Has(act) && by.names(p, d) && d.holds(p) {
				return fmt.Sprintf("%s.policies[%d]", at, i), by.what
			}
		}
	}
	switch {
	case d.q.Actor.Anonymous() && e.anonymous.Has(act):
		return at + ".anonymousPolicy", "nobody has said who he is"
	case !d.q.Actor.Anonymous() && e.byDefault.Has(act):
		return at + ".defaultPolicy", "the user is known"
	}
	return "", ""
}
