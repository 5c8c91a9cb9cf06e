package access

import (
	"testing"

	"github.com/berth-registry/berth/registry"
)

// never is a condition that does not hold.
type never struct{}

func (never) Holds(Question) (bool, error) { return false, nil }

// Whoever asks for a token does not know yet what he will do with it: conditions
// count then, and are decided when the token is used.
func TestConditionsCountWhenATokenIsAskedFor(t *testing.T) {
	rules := &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"**": {Policies: []registry.AccessPolicy{{
		Users: []string{"alice"}, Actions: []string{"create"}, Conditions: []registry.AccessCondition{{Expression: "x"}},
	}}}}}
	p, err := Compile(rules, func(string) (Condition, error) { return never{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	const want = registry.ActRead | registry.ActCreate
	early, now := registry.Actor{ID: "alice"}, registry.Actor{ID: "alice", Request: &registry.ActorRequest{Method: "PUT"}}
	for _, test := range []struct {
		a    registry.Actor
		want registry.Actions
	}{{early, registry.ActCreate}, {now, registry.NoActions}, {registry.Actor{ID: "bob"}, registry.NoActions}} {
		if got := p.Allowed(test.a, "a", want); got != test.want {
			t.Errorf("Allowed for %+v: %s, want %s", test.a, got, test.want)
		}
	}
	for _, a := range []registry.Actor{early, now} {
		if err := p.Allow(a, "a", registry.Reference{}, registry.ActCreate); err == nil {
			t.Errorf("Allow for %+v: the condition does not hold", a)
		}
	}
}
