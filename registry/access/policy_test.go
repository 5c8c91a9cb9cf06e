package access

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func compiled(t testing.TB, rules registry.AccessRules, c Compiler) *Policy {
	t.Helper()
	p, err := Compile(&rules, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const everyAction = registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete

// guide are the rules of the guide's complete example.
func guide() registry.AccessRules {
	rwud := []string{"read", "create", "update", "delete"}
	return registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"**": {
			AnonymousPolicy: []string{"read"},
			Policies: []registry.AccessPolicy{
				{Users: []string{"admin"}, Actions: rwud},
				{Users: []string{"ci-user"}, Actions: []string{"read", "create"}},
			},
		},
		"production/**": {
			Policies: []registry.AccessPolicy{
				{Users: []string{"admin", "release-manager"}, Actions: rwud},
				{Users: []string{"developer"}, Actions: []string{"read"}},
			},
		},
	}}
}

// TestGuide holds what the guide's rules mean, cell by cell. They are as zot has it:
// a known user does not inherit what the anonymous may.
func TestGuide(t *testing.T) {
	p := compiled(t, guide(), nil)
	for _, x := range []struct {
		user string
		repo registry.Name
		want registry.Actions
	}{
		{"", "library/nginx", registry.ActRead},
		{"", "production/api", 0},
		{"", "production", 0}, // ** matches no part, too
		{"admin", "library/nginx", everyAction},
		{"admin", "production/api", everyAction},
		{"ci-user", "library/nginx", registry.ActRead | registry.ActCreate},
		{"ci-user", "production/api", 0},
		{"release-manager", "library/nginx", 0},
		{"release-manager", "production/a/b", everyAction},
		{"developer", "library/nginx", 0},
		{"developer", "production/api", registry.ActRead},
		{"stranger", "library/nginx", 0},
	} {
		if got := p.Allowed(registry.Actor{ID: x.user}, x.repo, everyAction); got != x.want {
			t.Errorf("%q in %s: may %s, want %s", x.user, x.repo, got, x.want)
		}
	}
}

// TestGuideGroups holds what the guide's rules for a directory mean.
func TestGuideGroups(t *testing.T) {
	const devs, admins = "cn=developers,ou=groups,dc=example,dc=com", "cn=admins,ou=groups,dc=example,dc=com"
	p := compiled(t, registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"**": {Policies: []registry.AccessPolicy{
		{Groups: []string{devs}, Actions: []string{"read", "create"}},
		{Groups: []string{admins}, Actions: []string{"read", "create", "update", "delete"}},
	}}}}, nil)
	for _, x := range []struct {
		groups []string
		want   registry.Actions
	}{
		{[]string{devs}, registry.ActRead | registry.ActCreate},
		{[]string{"x", admins}, everyAction},
		{[]string{devs, admins}, everyAction},
		{[]string{"CN=developers,ou=groups,dc=example,dc=com"}, 0},
		{nil, 0},
	} {
		if got := p.Allowed(registry.Actor{ID: "u", Groups: x.groups}, "a", everyAction); got != x.want {
			t.Errorf("%q: may %s, want %s", x.groups, got, x.want)
		}
	}
}

func TestGrants(t *testing.T) {
	holds := func(what string) (Condition, error) {
		if what == "broken" {
			return nil, errors.New("no expression")
		}
		return fixed(what), nil
	}
	p := compiled(t, registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{
			"**":       {DefaultPolicy: []string{"read"}, AnonymousPolicy: []string{"read"}},
			"a/**":     {Policies: []registry.AccessPolicy{{Users: []string{"u"}, Actions: []string{"create"}}}},
			"a/{b,cd}": {Policies: []registry.AccessPolicy{{Groups: []string{"Devs"}, Actions: []string{"update"}}}},
			"a/xyz/**": {Policies: []registry.AccessPolicy{{Users: []string{"u"}, Actions: []string{"delete"}}}},
			"c/**": {Policies: []registry.AccessPolicy{
				{Users: []string{"u"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "true"}, {Expression: "false", Message: "only at night"}}},
				{Users: []string{"v"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "true"}}},
				{Users: []string{"w"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "error", Message: "never said"}}},
				{Users: []string{"x"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "false"}}},
				{Groups: []string{"g"}, Actions: []string{"read"}},
			}},
		},
		Groups: map[string]registry.AccessGroup{"devs": {Users: []string{"d"}}, "admins": {Users: []string{"root"}}},
		AdminPolicy: &registry.AccessPolicy{
			Users: []string{"boss"}, Groups: []string{"admins"}, Actions: []string{"read", "delete"},
		},
	}, holds)
	for _, x := range []struct {
		name string
		a    registry.Actor
		repo registry.Name
		want registry.Actions
	}{
		{"default", registry.Actor{ID: "u"}, "z", registry.ActRead},
		{"anonymous", registry.Actor{}, "z", registry.ActRead},
		{"only the longest pattern", registry.Actor{ID: "u"}, "a/q", registry.ActCreate},
		{"not the default of another", registry.Actor{ID: "other"}, "a/q", 0},
		{"not the anonymous of another", registry.Actor{}, "a/q", 0},
		{"as long as another, but first in byte order", registry.Actor{ID: "u"}, "a/xyz/1", registry.ActDelete},
		{"longest by text, not by what it matches", registry.Actor{ID: "u"}, "a/b", 0},
		{"static group, whatever the letters", registry.Actor{ID: "d"}, "a/b", registry.ActUpdate},
		{"group of the credential", registry.Actor{ID: "e", Groups: []string{"Devs"}}, "a/b", registry.ActUpdate},
		{"other letters", registry.Actor{ID: "e", Groups: []string{"devs"}}, "a/b", 0},
		{"admin", registry.Actor{ID: "boss"}, "a/q", registry.ActRead | registry.ActDelete},
		{"admin by a static group", registry.Actor{ID: "root"}, "c/q", registry.ActRead | registry.ActDelete},
		{"condition is false", registry.Actor{ID: "u"}, "c/q", 0},
		{"condition holds", registry.Actor{ID: "v"}, "c/q", registry.ActRead},
		{"condition has no value", registry.Actor{ID: "w"}, "c/q", 0},
		{"condition is false, a group grants", registry.Actor{ID: "x", Groups: []string{"g"}}, "c/q", registry.ActRead},
		{"anonymous with a group", registry.Actor{Groups: []string{"g", "admins"}}, "c/q", 0},
		{"the installation", registry.Actor{System: true}, "c/q", everyAction},
		{"scope", registry.Actor{ID: "boss", Scope: []registry.Grant{{Repositories: "a/*", Actions: everyAction}}}, "a/q", registry.ActRead | registry.ActDelete},
		{"scope of another", registry.Actor{ID: "boss", Scope: []registry.Grant{{Repositories: "b/*", Actions: everyAction}}}, "a/q", 0},
	} {
		x.a.Request = new(registry.ActorRequest)
		if got := p.Allowed(x.a, x.repo, everyAction); got != x.want {
			t.Errorf("%s: may %s in %s, want %s", x.name, got, x.repo, x.want)
		}
	}

	for _, x := range []struct {
		user, text string
		want       error
	}{
		{"", registry.Unauthorized.Text(), registry.ErrUnauthorized},
		{"u", "only at night", registry.ErrDenied},
		{"w", registry.Denied.Text(), registry.ErrDenied},
	} {
		err := p.Allow(registry.Actor{ID: x.user}, "c/q", registry.Reference{}, registry.ActRead)
		if !errors.Is(err, x.want) || registry.AsError(err).Text() != x.text {
			t.Errorf("%q is refused with %v, want %v %q", x.user, err, x.want, x.text)
		}
	}

	for user, want := range map[string]registry.Actions{"boss": registry.ActAdmin, "root": registry.ActAdmin, "u": 0, "": 0} {
		if got := p.Allowed(registry.Actor{ID: user}, "", registry.ActAdmin|registry.ActRead); got&registry.ActAdmin != want {
			t.Errorf("%q: administers %s, want %s", user, got, want)
		}
	}
	for bad, why := range map[string]registry.AccessRules{
		"no pattern": {Repositories: map[string]registry.RepositoryRules{"a[": {}}},
		"no action":  {Repositories: map[string]registry.RepositoryRules{"a": {DefaultPolicy: []string{"wite"}}}},
		"not zot's":  {AdminPolicy: &registry.AccessPolicy{Actions: []string{"admin"}}},
		"expression": {AdminPolicy: &registry.AccessPolicy{Conditions: []registry.AccessCondition{{Expression: "broken"}}}},
	} {
		if _, err := Compile(&why, holds); err == nil {
			t.Errorf("%s: compiled", bad)
		}
	}
	with := registry.AccessRules{AdminPolicy: &registry.AccessPolicy{Conditions: []registry.AccessCondition{{Expression: "true"}}}}
	if _, err := Compile(&with, nil); !errors.Is(err, ErrNoConditions) {
		t.Errorf("conditions without a compiler: %v", err)
	}
}

// fixed is a condition that is what it says.
type fixed string

func (f fixed) Holds(Question) (bool, error) {
	if f == "error" {
		return false, errors.New("no value")
	}
	return f == "true", nil
}

// TestReadOnlyAdmins may look at repositories, and do nothing to the store.
func TestReadOnlyAdmins(t *testing.T) {
	p := compiled(t, registry.AccessRules{AdminPolicy: &registry.AccessPolicy{Users: []string{"auditor"}, Actions: []string{"read"}}}, nil)
	a := registry.Actor{ID: "auditor"}
	if p.Allowed(a, "x", everyAction) != registry.ActRead || p.Allowed(a, "", registry.ActAdmin) != 0 {
		t.Error("an administrator who may only read may do more, or less")
	}
}

func TestCollision(t *testing.T) {
	rules := guide()
	rules.Repositories["**"] = registry.RepositoryRules{DefaultPolicy: []string{"delete", "detectManifestCollision"}}
	p := compiled(t, rules, nil)
	scoped := registry.Actor{ID: "u", Scope: []registry.Grant{{Repositories: "**", Actions: registry.ActDelete}}}
	for _, x := range []struct {
		p    *Policy
		a    registry.Actor
		repo registry.Name
		want bool
	}{
		{p, registry.Actor{ID: "u"}, "a", true}, {p, scoped, "a", true}, {p, registry.Actor{ID: "admin"}, "production/a", false},
		{p, registry.Actor{System: true}, "a", false}, {nil, registry.Actor{ID: "u"}, "a", false},
	} {
		if got := x.p.DetectsCollision(x.a, x.repo); got != x.want {
			t.Errorf("%+v in %s: %v", x.a, x.repo, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	p := compiled(t, registry.AccessRules{
		Metrics:     &registry.MetricsRules{Users: []string{"prometheus"}},
		AdminPolicy: &registry.AccessPolicy{Users: []string{"boss"}, Actions: []string{"update"}},
	}, nil)
	open := compiled(t, registry.AccessRules{Metrics: &registry.MetricsRules{AnonymousPolicy: []string{"read"}}}, nil)
	none := compiled(t, guide(), nil)
	scoped := []registry.Grant{{Repositories: "**", Actions: everyAction}}
	for _, x := range []struct {
		name string
		p    *Policy
		a    registry.Actor
		want error
	}{
		{"listed", p, registry.Actor{ID: "prometheus"}, nil},
		{"admin", p, registry.Actor{ID: "boss"}, nil},
		{"other", p, registry.Actor{ID: "x"}, registry.ErrDenied},
		{"anonymous", p, registry.Actor{}, registry.ErrUnauthorized},
		{"scoped", p, registry.Actor{ID: "prometheus", Scope: scoped}, registry.ErrDenied},
		{"open", open, registry.Actor{}, nil},
		{"rules that say nothing of it", none, registry.Actor{ID: "admin"}, registry.ErrDenied},
		{"no rules", nil, registry.Actor{}, nil},
	} {
		if err := x.p.Allow(x.a, "", registry.Reference{}, registry.ActMetrics); !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
}

// TestViewer compares what is listed, and what is skipped, with what may be read.
func TestViewer(t *testing.T) {
	rules := guide()
	rules.Repositories["team-*/x"] = registry.RepositoryRules{DefaultPolicy: []string{"read"}}
	rules.Repositories["c/**"] = registry.RepositoryRules{Policies: []registry.AccessPolicy{
		{Users: []string{"developer"}, Actions: []string{"read"}, Conditions: []registry.AccessCondition{{Expression: "x"}}},
	}}
	p := compiled(t, rules, func(string) (Condition, error) { return inRepo("c/yes"), nil })
	names := []registry.Name{"a", "c/no", "c/yes", "library/nginx", "prod", "production", "production/a", "team-1/x", "team-1/y", "z"}
	scope := []registry.Grant{{Repositories: "production/**", Actions: registry.ActRead}, {Repositories: "c/*", Actions: registry.ActList}, {Repositories: "z", Actions: registry.ActCreate}}
	for _, a := range []registry.Actor{{}, {ID: "admin"}, {ID: "developer"}, {ID: "nobody"}, {System: true}, {ID: "developer", Scope: scope}, {ID: "admin", Scope: []registry.Grant{}}} {
		a.Request = new(registry.ActorRequest)
		for _, policy := range []*Policy{p, nil} {
			var want, got, skipped []registry.Name
			for _, n := range names {
				if policy.Allowed(a, n, registry.ActList) != 0 {
					want = append(want, n)
				}
			}
			v := policy.Viewer(a)
			for _, n := range names {
				if v.Sees(n) {
					got = append(got, n)
				}
				if at, ok := v.Next(n); ok && at == n {
					skipped = append(skipped, n)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v sees (-want +got):\n%s", a, diff)
			}
			for _, n := range want {
				if !strings.Contains(fmt.Sprint(skipped), string(n)) {
					t.Errorf("%+v: %s is skipped", a, n)
				}
			}
		}
	}
	v := p.Viewer(registry.Actor{ID: "developer", Scope: scope})
	if at, ok := v.Next("d"); !ok || at != "production" {
		t.Errorf("behind d come %q, %v", at, ok)
	}
	if at, ok := v.Next("q"); ok {
		t.Errorf("behind q comes %q", at)
	}
}

type inRepo registry.Name

func (r inRepo) Holds(q Question) (bool, error) { return q.Repo == registry.Name(r), nil }

// TestIndex compares the index with trying all patterns.
func TestIndex(t *testing.T) {
	rules := registry.AccessRules{Repositories: map[string]registry.RepositoryRules{}}
	for _, pattern := range []string{"**", "*", "a/**", "a/b/**", "a/*", "a/b*", "a/**/c", "**/d/**", "**/dd", "*-d/**", "a/**/dd/*", "**/{d,e}/x", "**/d?d", "{a,b}/**", "a", "a/b", "b?", "[ab]/c", "**/c", "ab**", "a/b/c/d"} {
		rules.Repositories[pattern] = registry.RepositoryRules{}
	}
	p := compiled(t, rules, nil)
	for _, name := range []string{"a", "b", "ab", "ba", "a/b", "a/c", "a/b/c", "a/b/c/d", "b/c", "b/d/c", "x/c", "x/y", "a/bc", "", "d", "x/d/y", "dd", "x/dd", "a/dd/x", "x/ddd", "a-d", "a-d/d", "x/d/x", "e/x", "x/dxd", "dddd"} {
		want := -1
		for i := range p.entries {
			if p.entries[i].pattern.Match(name) {
				want = i
				break
			}
		}
		if got := p.entryAt(name); got != want {
			t.Errorf("%q: entry %d, want %d", name, got, want)
		}
	}
}

// BenchmarkList is a catalog page: 10,000 names, 1,000 patterns.
func BenchmarkList(b *testing.B) {
	for _, kind := range []string{"team%d/**", "team%d/*-svc", "**/t%d/**", "**/app%d-*", "**/*-svc%d", "x/**/app%d-svc", "*%d/**"} {
		rules := registry.AccessRules{Repositories: map[string]registry.RepositoryRules{}}
		for i := range 1000 {
			rules.Repositories[fmt.Sprintf(kind, i)] = registry.RepositoryRules{Policies: []registry.AccessPolicy{{Users: []string{fmt.Sprint("u", i)}, Actions: []string{"read"}}}}
		}
		p := compiled(b, rules, nil)
		names := make([]registry.Name, 10_000)
		for i := range names {
			names[i] = registry.Name(fmt.Sprintf("team%d/app%d-svc", i%1000, i))
		}
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				v := p.Viewer(registry.Actor{ID: "u7"})
				n := 0
				for _, name := range names {
					if v.Sees(name) {
						n++
					}
				}
			}
		})
	}
}

// TestUntold asks a catalog without rules on behalf of a gateway that has some.
func TestUntold(t *testing.T) {
	var none *Policy
	a := registry.Actor{ID: "admin", Ruled: true}
	if err := none.Allow(a, "x", registry.Reference{}, registry.ActRead); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if got := none.Allowed(a, "x", everyAction); got != 0 {
		t.Errorf("may %s", got)
	}
	if _, ok := none.Viewer(a).Next(""); ok || none.Viewer(a).Sees("x") {
		t.Error("sees what there is")
	}
	a.System = true
	if err := none.Allow(a, "x", registry.Reference{}, registry.ActRead); err != nil {
		t.Errorf("the installation itself: %v", err)
	}
}

// TestExplain names the rule for each way to be granted something, and agrees with
// what is decided.
func TestExplain(t *testing.T) {
	rules := guide()
	rules.AdminPolicy = &registry.AccessPolicy{Users: []string{"boss"}, Actions: []string{"delete"}}
	rules.Repositories["team/**"] = registry.RepositoryRules{
		DefaultPolicy: []string{"read"}, Policies: []registry.AccessPolicy{{}, {Groups: []string{"g"}, Actions: []string{"create"}}},
	}
	p := compiled(t, rules, nil)
	for _, x := range []struct {
		a    registry.Actor
		repo registry.Name
		act  registry.Actions
		rule string
	}{
		{registry.Actor{}, "a", registry.ActRead, "repositories.**.anonymousPolicy"},
		{registry.Actor{ID: "ci-user"}, "a", registry.ActCreate, "repositories.**.policies[1]"},
		{registry.Actor{ID: "developer"}, "a", registry.ActRead, ""},
		{registry.Actor{ID: "x", Groups: []string{"g"}}, "team/a", registry.ActCreate, "repositories.team/**.policies[1]"},
		{registry.Actor{ID: "x"}, "team/a", registry.ActRead, "repositories.team/**.defaultPolicy"},
		{registry.Actor{ID: "boss"}, "team/a", registry.ActDelete, "adminPolicy"},
	} {
		got := p.Explain(x.a, x.repo, registry.Reference{}, x.act)
		if got.Rule != x.rule || got.Allowed != (x.rule != "") || got.Because == "" || got.Allowed != (p.Allowed(x.a, x.repo, x.act) != 0) {
			t.Errorf("%q, %s in %s: %+v, want %q", x.a.ID, x.act, x.repo, got, x.rule)
		}
	}
}
