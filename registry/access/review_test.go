package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// inventory is what a review looks at, in pages of two.
type inventory struct {
	users []registry.User
	repos []registry.Name
}

func (i inventory) Users(_ context.Context, _ registry.Actor, p registry.Page[string]) (registry.List[registry.User], error) {
	at := slices.IndexFunc(i.users, func(u registry.User) bool { return u.ID > p.After })
	if at < 0 {
		return registry.List[registry.User]{}, nil
	}
	end := min(at+2, len(i.users))
	return registry.List[registry.User]{Items: i.users[at:end], More: end < len(i.users)}, nil
}

func (i inventory) Repositories(_ context.Context, _ registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	at := slices.IndexFunc(i.repos, func(n registry.Name) bool { return n > p.After })
	if at < 0 {
		return registry.List[registry.Name]{}, nil
	}
	end := min(at+2, len(i.repos))
	return registry.List[registry.Name]{Items: i.repos[at:end], More: end < len(i.repos)}, nil
}

var there = inventory{
	users: []registry.User{{ID: "admin"}, {ID: "carol", Groups: []string{"staff"}}, {ID: "dave"}},
	repos: []registry.Name{"library/nginx", "production/api", "production/web", "team/x"},
}

// TestReview says who gains and loses what, and nothing of what stays.
func TestReview(t *testing.T) {
	old := compiled(t, registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{
			"**":            {AnonymousPolicy: []string{"read"}, DefaultPolicy: []string{"read"}},
			"production/**": {Policies: []registry.AccessPolicy{{Groups: []string{"staff"}, Actions: []string{"read", "update"}}}},
		},
		AdminPolicy: &registry.AccessPolicy{Users: []string{"admin"}, Actions: []string{"read", "delete"}},
	}, nil)
	next := &registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{
			"**":            {DefaultPolicy: []string{"read"}},
			"production/**": {Policies: []registry.AccessPolicy{{Groups: []string{"staff"}, Actions: []string{"read"}}, {Users: []string{"bot"}, Actions: []string{"create"}}}},
			"team/**":       {DefaultPolicy: []string{"read"}},
		},
		AdminPolicy: &registry.AccessPolicy{Users: []string{"dave"}, Actions: []string{"read", "delete"}},
	}
	got, err := Review(t.Context(), there, registry.Actor{ID: "admin"}, old, next, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, prod := there.repos, there.repos[1:3]
	rest := []registry.Name{"library/nginx", "team/x"}
	const read, del = registry.ActRead, registry.ActDelete
	want := registry.AccessReview{Users: 3, Repositories: 4, Changes: []registry.AccessChange{
		{Kind: registry.SubjectAnonymous, Loses: read, Repositories: 2, Examples: rest},
		{Kind: registry.SubjectGroup, Name: "staff", Loses: registry.ActUpdate, Repositories: 2, Examples: prod},
		{Kind: registry.SubjectUser, Name: "admin", Loses: del, Repositories: 2, Examples: rest},
		{Kind: registry.SubjectUser, Name: "admin", Loses: read | del, Repositories: 2, Examples: prod},
		{Kind: registry.SubjectUser, Name: "admin", Loses: store},
		{Kind: registry.SubjectUser, Name: "bot", Gains: registry.ActCreate, Repositories: 2, Examples: prod},
		{Kind: registry.SubjectUser, Name: "carol", Loses: registry.ActUpdate, Repositories: 2, Examples: prod},
		{Kind: registry.SubjectUser, Name: "dave", Gains: del, Repositories: 2, Examples: rest},
		{Kind: registry.SubjectUser, Name: "dave", Gains: read | del, Repositories: 2, Examples: prod},
		{Kind: registry.SubjectUser, Name: "dave", Gains: store},
	}}
	sortChanges(want.Changes)
	sortChanges(got.Changes)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("review (-want +got):\n%s", diff)
	}
	// The same rules change nothing, and no rules give everybody everything.
	if r, err := Review(t.Context(), there, registry.Actor{ID: "admin"}, old, old.Rules(), nil); err != nil || len(r.Changes) != 0 || r.Repositories != 4 {
		t.Errorf("the same rules: %+v, %v", r, err)
	}
	r, err := Review(t.Context(), there, registry.Actor{ID: "admin"}, old, nil, nil)
	if err != nil || len(r.Changes) == 0 || slices.ContainsFunc(r.Changes, func(x registry.AccessChange) bool { return x.Loses != 0 }) {
		t.Errorf("no rules: %+v, %v", r, err)
	}
	if r, err = Review(t.Context(), there, registry.Actor{ID: "x"}, nil, next, nil); err != nil || len(r.Changes) == 0 || len(all) == 0 {
		t.Errorf("the first rules: %+v, %v", r, err)
	}
	// It is for administrators, and for rules that can be used.
	if _, err := Review(t.Context(), there, registry.Actor{ID: "carol"}, old, next, nil); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("carol: %v", err)
	}
	bad := &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"[": {}}}
	if _, err := Review(t.Context(), there, registry.Actor{ID: "admin"}, old, bad, nil); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("rules that are none: %v", err)
	}
}

func sortChanges(all []registry.AccessChange) {
	slices.SortFunc(all, func(a, b registry.AccessChange) int {
		return cmpText(fmt.Sprint(a.Kind, a.Name, a.Gains, a.Loses), fmt.Sprint(b.Kind, b.Name, b.Gains, b.Loses))
	})
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestReviewOfConditions: they count as true, and that is told.
func TestReviewOfConditions(t *testing.T) {
	next := &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"**": {Policies: []registry.AccessPolicy{
		{Users: []string{"u"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "false"}}},
	}}}}
	old := compiled(t, registry.AccessRules{AdminPolicy: &registry.AccessPolicy{Users: []string{"admin"}, Actions: []string{"delete"}}}, nil)
	next.AdminPolicy = old.Rules().AdminPolicy
	got, err := Review(t.Context(), there, registry.Actor{ID: "admin"}, old, next, func(e string) (Condition, error) { return fixed(e), nil })
	want := []registry.AccessChange{{Kind: registry.SubjectUser, Name: "u", Gains: registry.ActRead, Repositories: 4, Examples: there.repos}}
	if diff := cmp.Diff(want, got.Changes); err != nil || !got.Conditional || diff != "" {
		t.Errorf("%v, conditional %v (-want +got):\n%s", err, got.Conditional, diff)
	}
}

// TestReviewIsBounded: many users and classes of repositories.
func TestReviewIsBounded(t *testing.T) {
	var i inventory
	rules := registry.AccessRules{Repositories: map[string]registry.RepositoryRules{}}
	for n := range 60 {
		i.users = append(i.users, registry.User{ID: fmt.Sprintf("u%03d", n)})
		i.repos = append(i.repos, registry.Name(fmt.Sprintf("r%03d", n)))
		rules.Repositories[fmt.Sprintf("r%03d", n)] = registry.RepositoryRules{Policies: []registry.AccessPolicy{{Users: []string{fmt.Sprintf("u%03d", n)}, Actions: []string{"read"}}}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Review(ctx, i, registry.Actor{}, nil, &rules, nil)
	if err != nil || len(r.Changes) == 0 || len(r.Changes) > registry.MaxAccessChanges || r.Users != 60 || r.Repositories != 60 {
		t.Fatalf("%d changes, %+v, %v", len(r.Changes), r.More, err)
	}
	for _, x := range r.Changes {
		if len(x.Examples) > registry.MaxExamples {
			t.Errorf("%s %s: %d examples", x.Kind, x.Name, len(x.Examples))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Review(ctx, i, registry.Actor{}, nil, &rules, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}
