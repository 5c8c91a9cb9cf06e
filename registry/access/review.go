package access

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Source is what a review looks at: a catalog.
type Source interface {
	Users(ctx context.Context, a registry.Actor, p registry.Page[string]) (registry.List[registry.User], error)
	Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error)
}

const (
	// reviewPage is how many entries are read at a time.
	reviewPage = 1000
	// maxSubjects bounds the users and groups that are looked at.
	maxSubjects = 20_000
)

// Review implements [registry.Access.ReviewAccess] for a catalog in which old holds.
//
// Repositories are not compared one by one: those for which the same two entries count
// are a class, and all users' rights are the same in it, conditions aside.
func Review(ctx context.Context, from Source, a registry.Actor, old *Policy, rules *registry.AccessRules, compile Compiler) (r registry.AccessReview, err error) {
	if err := old.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return r, err
	}
	next, err := Compile(rules, compile)
	if err != nil {
		return r, registry.ErrParameterInvalid.With("http.accessControl.%v", err)
	}
	v := review{old: old, next: next, classes: make(map[class]*members), found: make(map[change]*members)}
	v.collect()
	system := registry.Actor{System: true}
	for p := (registry.Page[string]{Limit: reviewPage}); ; {
		list, err := from.Users(ctx, system, p)
		if err != nil {
			return r, err
		}
		for _, u := range list.Items {
			v.user(u.ID, u.Groups)
			p.After = u.ID
			r.Users++
		}
		if !list.More || len(list.Items) == 0 {
			break
		}
	}
	for p := (registry.Page[registry.Name]{Limit: reviewPage}); ; {
		list, err := from.Repositories(ctx, system, p)
		if err != nil {
			return r, err
		}
		for _, name := range list.Items {
			v.repository(name)
			p.After = name
			r.Repositories++
		}
		if !list.More || len(list.Items) == 0 {
			break
		}
	}
	if err := v.compare(ctx); err != nil {
		return r, err
	}
	r.Changes, r.More = v.changes()
	r.Conditional = old.conditional() || next.conditional()
	return r, nil
}

// review is one that goes on.
type review struct {
	old, next *Policy
	subjects  map[subject]registry.Actor
	classes   map[class]*members
	found     map[change]*members
}

type subject struct {
	kind registry.SubjectKind
	name string
}

// class are repositories for which the same entries count, -1: none.
type class struct{ old, next int }

// change is what becomes different for somebody.
type change struct {
	subject
	gains, loses registry.Actions
}

// members are repositories, with some of their names.
type members struct {
	count    int64
	examples []registry.Name
}

func (m *members) add(count int64, names ...registry.Name) {
	m.count += count
	m.examples = append(m.examples, names...)
	if len(m.examples) > registry.MaxExamples {
		slices.Sort(m.examples)
		m.examples = m.examples[:registry.MaxExamples]
	}
}

// nobody is a name that no rule has: user names have no control characters.
const nobody = "\x00"

// collect notes all whom rules name, and those whom they don't.
func (v *review) collect() {
	v.subjects = map[subject]registry.Actor{
		{registry.SubjectAnonymous, ""}: {},
		{registry.SubjectKnown, ""}:     {ID: nobody},
	}
	policy := func(p registry.AccessPolicy) {
		for _, u := range p.Users {
			v.user(u, nil)
		}
		for _, g := range p.Groups {
			v.subjects[subject{registry.SubjectGroup, g}] = registry.Actor{ID: nobody, Groups: []string{g}}
		}
	}
	for _, p := range []*Policy{v.old, v.next} {
		rules := p.Rules()
		if rules == nil {
			continue
		}
		for _, r := range rules.Repositories {
			for _, one := range r.Policies {
				policy(one)
			}
		}
		if rules.AdminPolicy != nil {
			policy(*rules.AdminPolicy)
		}
		for _, g := range rules.Groups {
			policy(registry.AccessPolicy{Users: g.Users})
		}
		if rules.Metrics != nil {
			policy(registry.AccessPolicy{Users: rules.Metrics.Users})
		}
	}
}

func (v *review) user(id string, groups []string) {
	if len(v.subjects) < maxSubjects {
		v.subjects[subject{registry.SubjectUser, id}] = registry.Actor{ID: id, Groups: groups}
	}
}

func (v *review) repository(name registry.Name) {
	at := class{v.old.counts(name), v.next.counts(name)}
	m := v.classes[at]
	if m == nil {
		m = new(members)
		v.classes[at] = m
	}
	if len(m.examples) < registry.MaxExamples { // names come in order
		m.examples = append(m.examples, name)
	}
	m.count++
}

// counts returns which entry counts for a repository.
func (p *Policy) counts(name registry.Name) int {
	if p == nil {
		return -1
	}
	return p.entryAt(string(name))
}

// rights are what is compared. What may be listed follows from what may be read.
const rights = registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete

func (v *review) compare(ctx context.Context) error {
	same := v.same()
	for at, m := range v.classes {
		if same(at) {
			continue
		}
		for s, a := range v.subjects {
			v.note(s, v.old.Allowed(a, m.examples[0], rights), v.next.Allowed(a, m.examples[0], rights), m)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for s, a := range v.subjects {
		a.Request = new(registry.ActorRequest)
		v.note(s, v.old.Allowed(a, "", store), v.next.Allowed(a, "", store), new(members))
	}
	return nil
}

func (v *review) note(s subject, before, after registry.Actions, m *members) {
	x := change{s, after &^ before, before &^ after}
	if x.gains == 0 && x.loses == 0 {
		return
	}
	if v.found[x] == nil {
		v.found[x] = new(members)
	}
	v.found[x].add(m.count, m.examples...)
}

// same returns a function that reports whether the rules for a class did not change.
func (v *review) same() func(class) bool {
	if v.old == nil || v.next == nil {
		return func(class) bool { return v.old == nil && v.next == nil }
	}
	text := func(x any) string {
		b, err := json.Marshal(x)
		if err != nil {
			return ""
		}
		return string(b)
	}
	if text(v.old.rules.AdminPolicy) != text(v.next.rules.AdminPolicy) || text(v.old.rules.Groups) != text(v.next.rules.Groups) {
		return func(class) bool { return false }
	}
	entry := func(p *Policy, i int) string {
		if i < 0 {
			return "none"
		}
		return text(p.rules.Repositories[p.entries[i].pattern.String()])
	}
	return func(at class) bool { return entry(v.old, at.old) == entry(v.next, at.next) }
}

// changes returns what was found, in order.
func (v *review) changes() (all []registry.AccessChange, more bool) {
	keys := slices.SortedFunc(maps.Keys(v.found), func(a, b change) int {
		return cmp.Or(strings.Compare(string(a.kind), string(b.kind)), strings.Compare(a.name, b.name), cmp.Compare(a.loses, b.loses), cmp.Compare(a.gains, b.gains))
	})
	if more = len(keys) > registry.MaxAccessChanges; more {
		keys = keys[:registry.MaxAccessChanges]
	}
	for _, k := range keys {
		m := v.found[k]
		slices.Sort(m.examples)
		all = append(all, registry.AccessChange{Kind: k.kind, Name: k.name, Gains: k.gains, Loses: k.loses, Repositories: m.count, Examples: m.examples})
	}
	return all, more
}

// conditional reports whether the policy has conditions.
func (p *Policy) conditional() bool {
	if p == nil {
		return false
	}
	has := func(one policy) bool { return len(one.conditions) > 0 }
	return p.admin != nil && has(*p.admin) || slices.ContainsFunc(p.entries, func(e entry) bool { return slices.ContainsFunc(e.policies, has) })
}

// ExplainTo implements [registry.Access.ExplainAccess] for a catalog in which p holds.
func (p *Policy) ExplainTo(a, whom registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) (Decision, error) {
	if err := p.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return Decision{}, err
	}
	return p.Explain(whom, repo, ref, act), nil
}
