package registrytest

import (
	"errors"
	"slices"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
)

func accessTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ScopeLimits", testScopeLimits},
		{"S001RefusedBeforeAnythingIsRead", testS001RefusedBeforeAnythingIsRead},
		{"S002S003S004MountLeaksNothing", testS002MountLeaksNothing},
		{"S005S006CreateIsNotUpdate", testS005CreateIsNotUpdate},
		{"ManifestCollision", testManifestCollision},
		{"S024ConditionsOnBlobs", testS024ConditionsOnBlobs},
		{"S024RestoredTags", testS024RestoredTags},
		{"S024DeletedWithOthers", testS024DeletedWithOthers},
		{"S029Lists", testS029Lists},
		{"RulesAreTold", testRulesAreTold},
	}
}

// testScopeLimits asks without rules: a credential is good for what its scope says.
func testScopeLimits(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	scoped := func(grants ...registry.Grant) registry.Actor {
		return registry.Actor{ID: "alice", Scope: append([]registry.Grant{}, grants...)}
	}
	const rw = registry.ActRead | registry.ActCreate
	for _, x := range []struct {
		name string
		a    registry.Actor
		repo registry.Name
		want registry.Actions
		got  registry.Actions
	}{
		{"no scope", alice, "a/b", rw | registry.ActDelete, rw | registry.ActDelete},
		{"no scope, the store", alice, "", registry.ActAdmin, registry.ActAdmin},
		{"empty scope", scoped(), "a/b", rw, 0},
		{"a name", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}), "a/b", rw, registry.ActRead},
		{"another name", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}), "a/bc", rw, 0},
		{"below", scoped(registry.Grant{Repositories: "a/**", Actions: rw}), "a/b/c", rw | registry.ActDelete, rw},
		{"a glob", scoped(registry.Grant{Repositories: "a/*-x", Actions: rw}), "a/b-x", rw, rw},
		{"a malformed glob", scoped(registry.Grant{Repositories: "a/[", Actions: rw}), "a/b", rw, 0},
		{"two grants", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}, registry.Grant{Repositories: "**", Actions: registry.ActCreate}), "a/b", rw, rw},
		{"reading lets list", scoped(registry.Grant{Repositories: "**", Actions: registry.ActRead}), "a", registry.ActList, registry.ActList},
		{"listing lets not read", scoped(registry.Grant{Repositories: "**", Actions: registry.ActList}), "a", rw | registry.ActList, registry.ActList},
		{"the store", scoped(registry.Grant{Repositories: "**", Actions: rw | registry.ActAdmin}), "", registry.ActAdmin, registry.ActAdmin},
		{"the store by a part of it", scoped(registry.Grant{Repositories: "a/**", Actions: registry.ActAdmin}), "", registry.ActAdmin, 0},
	} {
		got, err := c.Allowed(t.Context(), x.a, x.repo, x.want)
		must(t, x.name, err)
		if got != x.got {
			t.Errorf("%s: of %s in %q allowed %s, want %s", x.name, x.want, x.repo, got, x.got)
		}
	}
}

// tenants are rules for two who share a registry. All may push to the commons, but
// only create; alice, who administers, may do anything.
func tenants(t *testing.T) *access.Policy {
	t.Helper()
	all := []string{"read", "create", "update", "delete"}
	p, err := access.Compile(&registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{
			"a/**":       {Policies: []registry.AccessPolicy{{Users: []string{"anna"}, Actions: all}}},
			"b/**":       {Policies: []registry.AccessPolicy{{Users: []string{"bert"}, Actions: all}}},
			"b/careful":  {Policies: []registry.AccessPolicy{{Users: []string{"bert"}, Actions: append(all, "detectManifestCollision")}}},
			"commons/**": {DefaultPolicy: []string{"read", "create"}, AnonymousPolicy: []string{"read"}},
			"movable":    {Policies: []registry.AccessPolicy{{Users: []string{"bert"}, Actions: []string{"read", "update"}}}},
		},
		AdminPolicy: &registry.AccessPolicy{Users: []string{"alice"}, Actions: all},
	}, nil)
	must(t, "Compile", err)
	return p
}

var (
	anna   = registry.Actor{ID: "anna"}
	bert   = registry.Actor{ID: "bert"}
	nobody registry.Actor
)

// accessCalls are all methods that an actor's request can reach, with a repository.
func (c *catalog) accessCalls(t *testing.T) map[string]func(a registry.Actor, repo registry.Name) error {
	ctx, d := t.Context(), sha256of([]byte("x"))
	image := imageOf([]byte("x"), []byte("y"))
	return map[string]func(a registry.Actor, repo registry.Name) error{
		"Admit": func(a registry.Actor, repo registry.Name) error { _, err := c.Admit(ctx, a, repo); return err },
		"Tags": func(a registry.Actor, repo registry.Name) error {
			_, err := c.Tags(ctx, a, repo, registry.Page[registry.Tag]{Limit: 1})
			return err
		},
		"TagHistory": func(a registry.Actor, repo registry.Name) error {
			_, err := c.TagHistory(ctx, a, repo, "t", 1)
			return err
		},
		"Manifest": func(a registry.Actor, repo registry.Name) error {
			_, err := c.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: "t"}})
			return err
		},
		"PutManifest": func(a registry.Actor, repo registry.Name) error {
			_, err := c.PutManifest(ctx, a, repo, registry.ManifestPut{Digest: sha256of(image), MediaType: registry.TypeManifest, Bytes: image, Tags: []registry.Tag{"t"}})
			return err
		},
		"DeleteTag": func(a registry.Actor, repo registry.Name) error {
			return c.DeleteTag(ctx, a, repo, "t", registry.Condition{})
		},
		"DeleteManifest": func(a registry.Actor, repo registry.Name) error { return c.DeleteManifest(ctx, a, repo, d) },
		"Referrers": func(a registry.Actor, repo registry.Name) error {
			_, err := c.Referrers(ctx, a, repo, d, "", registry.Page[registry.Digest]{Limit: 1})
			return err
		},
		"Blob": func(a registry.Actor, repo registry.Name) error { _, err := c.Blob(ctx, a, repo, d); return err },
		"Link": func(a registry.Actor, repo registry.Name) error {
			_, err := c.Link(ctx, a, repo, c.copyOf(repo, []byte("x")))
			return err
		},
		"Mount":  func(a registry.Actor, repo registry.Name) error { _, err := c.Mount(ctx, a, repo, d, ""); return err },
		"Unlink": func(a registry.Actor, repo registry.Name) error { return c.Unlink(ctx, a, repo, d) },
		"Usage":  func(a registry.Actor, repo registry.Name) error { _, err := c.Usage(ctx, a, repo); return err },
		"PullsOf": func(a registry.Actor, repo registry.Name) error {
			_, err := c.PullsOf(ctx, a, repo, d, registry.Page[registry.Tag]{Limit: 1})
			return err
		},
		"ExplainRetention": func(a registry.Actor, repo registry.Name) error {
			_, err := c.ExplainRetention(ctx, a, repo, registry.Reference{}, registry.Page[string]{Limit: 1})
			return err
		},
		"RollbackTag": func(a registry.Actor, repo registry.Name) error {
			_, err := c.RollbackTag(ctx, a, repo, "t", d, registry.Condition{})
			return err
		},
		"DeleteRepository": func(a registry.Actor, repo registry.Name) error { return c.DeleteRepository(ctx, a, repo) },
		"Deleted": func(a registry.Actor, repo registry.Name) error {
			_, err := c.Deleted(ctx, a, repo, registry.Page[registry.Cursor]{Limit: 1})
			return err
		},
		"Undelete": func(a registry.Actor, repo registry.Name) error {
			return c.Undelete(ctx, a, repo, registry.Reference{Tag: "t"})
		},

		"Purge":          func(a registry.Actor, repo registry.Name) error { return c.Purge(ctx, a, repo) },
		"ApplyRetention": func(a registry.Actor, repo registry.Name) error { _, err := c.ApplyRetention(ctx, a, repo); return err },
		"Purge of all":   func(a registry.Actor, _ registry.Name) error { return c.Purge(ctx, a, "") },
		"ReadOnlys":      func(a registry.Actor, _ registry.Name) error { _, err := c.ReadOnlys(ctx, a); return err },
		"SetReadOnly": func(a registry.Actor, _ registry.Name) error {
			return c.SetReadOnly(ctx, a, registry.ReadOnly{Repositories: "x"})
		},
		"ClearReadOnly": func(a registry.Actor, _ registry.Name) error { return c.ClearReadOnly(ctx, a, "x") },
		"Collect":       func(a registry.Actor, _ registry.Name) error { _, err := c.Collect(ctx, a); return err },
		"Plan": func(a registry.Actor, _ registry.Name) error {
			_, err := c.Plan(ctx, a, registry.Page[registry.Cursor]{Limit: 1})
			return err
		},
		"StartScrub":  func(a registry.Actor, _ registry.Name) error { return c.StartScrub(ctx, a) },
		"ScrubStatus": func(a registry.Actor, _ registry.Name) error { _, err := c.ScrubStatus(ctx, a); return err },
		"Damages":     func(a registry.Actor, _ registry.Name) error { _, err := c.Damages(ctx, a, nil, 1); return err },
	}
}

// testS001RefusedBeforeAnythingIsRead calls every method for those who may do
// nothing in a repository: what is there and what is not look the same, the text too.
func testS001RefusedBeforeAnythingIsRead(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Access: tenants(t)})
	c.image(t, "a/secret", "x", "t")
	wrong := registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "b/**", Actions: registry.ActRead | registry.ActDelete}}}
	for name, call := range c.accessCalls(t) {
		for who, a := range map[string]registry.Actor{"nobody": nobody, "bert": bert, "a token for b": wrong} {
			want := error(registry.ErrDenied)
			if a.Anonymous() {
				want = registry.ErrUnauthorized
			}
			there, missing := call(a, "a/secret"), call(a, "a/missing")
			wantErr(t, name+" by "+who, there, want)
			wantErr(t, name+" by "+who+" of what is not there", missing, want)
			if there != nil && missing != nil && registry.AsError(there).Text() != registry.AsError(missing).Text() {
				t.Errorf("%s by %s: %q tells from %q", name, who, there, missing)
			}
		}
	}
	c.checkTag(t, "a/secret", "t", c.get(t, "a/secret", registry.Reference{Tag: "t"}).Digest)
}

// testS002MountLeaksNothing mounts what others have: it is as if nobody had it.
func testS002MountLeaksNothing(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Access: tenants(t)})
	secret := c.link(t, "a/secret", []byte("secret"))
	manifest := c.image(t, "a/secret", "x", "t")
	ctx := t.Context()
	for _, d := range []registry.Digest{secret.Digest, manifest, sha256of([]byte("unknown"))} {
		for _, from := range []registry.Name{"a/secret", "a/missing", ""} {
			_, err := c.Mount(ctx, bert, "b/x", d, from)
			wantErr(t, "S-002, S-003: Mount from "+string(from), err, registry.ErrBlobUnknown)
		}
		_, err := c.Blob(ctx, bert, "b/x", d)
		wantErr(t, "S-004: Blob", err, registry.ErrBlobUnknown, registry.ErrNameUnknown)
	}
	_, err := c.Mount(ctx, registry.Actor{ID: "anna", Scope: []registry.Grant{{Repositories: "a/x", Actions: registry.ActRead | registry.ActCreate}}}, "a/x", secret.Digest, "a/secret")
	wantErr(t, "Mount by a token that is not good for the source", err, registry.ErrBlobUnknown)
	if _, err := c.Mount(ctx, anna, "a/x", secret.Digest, "a/secret"); err != nil {
		t.Errorf("Mount by who may read: %v", err)
	}
}

// testS005CreateIsNotUpdate pushes with one of both rights.
func testS005CreateIsNotUpdate(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Access: tenants(t)})
	old := c.image(t, "commons/app", "old", "latest", "v1")
	data := c.imageBytes(t, "commons/app", "new")
	d := sha256of(data)
	put := func(a registry.Actor, repo registry.Name, byDigest bool, tags ...registry.Tag) error {
		_, err := c.PutManifest(t.Context(), a, repo, registry.ManifestPut{Digest: d, MediaType: registry.TypeManifest, Bytes: data, Tags: tags, ByDigest: byDigest})
		return err
	}
	wantErr(t, "S-005: an existing tag", put(bert, "commons/app", false, "latest"), registry.ErrDenied)
	for _, tags := range [][]registry.Tag{{"new", "latest"}, {"latest", "new"}, {"new", "v1"}} {
		wantErr(t, "S-006, S-024: several tags", put(bert, "commons/app", true, tags...), registry.ErrDenied)
	}
	c.checkTag(t, "commons/app", "latest", old)
	c.checkTag(t, "commons/app", "new", "")
	c.checkNoManifest(t, "commons/app", d)
	_, err := c.RollbackTag(t.Context(), bert, "commons/app", "latest", old, registry.Condition{})
	wantErr(t, "S-024: RollbackTag", err, registry.ErrDenied)
	wantErr(t, "S-024: DeleteTag", c.DeleteTag(t.Context(), bert, "commons/app", "latest", registry.Condition{}), registry.ErrDenied)
	wantErr(t, "anonymous", put(nobody, "commons/app", false, "other"), registry.ErrUnauthorized)
	must(t, "a new tag", put(bert, "commons/app", false, "new"))
	c.checkTag(t, "commons/app", "new", d)

	// The other way round: update without create.
	c.image(t, "movable", "old", "t")
	c.imageBytes(t, "movable", "new")
	wantErr(t, "a new tag without create", put(bert, "movable", false, "fresh"), registry.ErrDenied)
	wantErr(t, "a digest without create", put(bert, "movable", true), registry.ErrDenied)
	wantErr(t, "a digest and a tag without create", put(bert, "movable", true, "t"), registry.ErrDenied)
	must(t, "an existing tag without create", put(bert, "movable", false, "t"))
	c.checkTag(t, "movable", "t", d)
}

func testManifestCollision(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Access: tenants(t)})
	d := c.image(t, "b/careful", "x", "t", "u")
	wantErr(t, "DeleteManifest with two tags", c.DeleteManifest(t.Context(), bert, "b/careful", d), registry.ErrManifestCollision)
	must(t, "DeleteTag", c.DeleteTag(t.Context(), bert, "b/careful", "u", registry.Condition{}))
	must(t, "DeleteManifest with one tag", c.DeleteManifest(t.Context(), bert, "b/careful", d))
	d = c.image(t, "b/x", "x", "t", "u")
	must(t, "DeleteManifest by who does not detect it", c.DeleteManifest(t.Context(), bert, "b/x", d))
}

// testS029Lists shows each the names he may read, however small the pages.
func testS029Lists(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Access: tenants(t)})
	for _, repo := range []registry.Name{"a/1", "a/2", "b/1", "commons/x", "movable", "z/1", "z/2"} {
		c.link(t, repo, []byte("x"))
	}
	c.image(t, "a/1", "x", "t")
	must(t, "DeleteTag", c.DeleteManifest(t.Context(), anna, "a/1", c.get(t, "a/1", registry.Reference{Tag: "t"}).Digest))
	scoped := registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "z/*", Actions: registry.ActList}, {Repositories: "b/1", Actions: registry.ActRead}, {Repositories: "a/1", Actions: registry.ActCreate}}}
	for _, x := range []struct {
		name string
		a    registry.Actor
		want []registry.Name
	}{
		{"nobody", nobody, []registry.Name{"commons/x"}},
		{"anna", anna, []registry.Name{"a/1", "a/2", "commons/x"}},
		{"bert", bert, []registry.Name{"b/1", "commons/x", "movable"}},
		{"stranger", registry.Actor{ID: "stranger"}, []registry.Name{"commons/x"}},
		{"alice", alice, []registry.Name{"a/1", "a/2", "b/1", "commons/x", "movable", "z/1", "z/2"}},
		{"a token", scoped, []registry.Name{"b/1", "z/1", "z/2"}},
		{"a token for nothing", registry.Actor{ID: "alice", Scope: []registry.Grant{}}, nil},
	} {
		for _, limit := range []int{1, 2, 100} {
			got := pages(t, limit, func(n registry.Name) registry.Name { return n }, func(p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
				return c.Repositories(t.Context(), x.a, p)
			})
			if !slices.Equal(got, x.want) {
				t.Errorf("%s, in pages of %d: %q, want %q", x.name, limit, got, x.want)
			}
		}
	}
	list, err := c.Deleted(t.Context(), bert, "", registry.Page[registry.Cursor]{Limit: 10})
	must(t, "Deleted", err)
	if len(list.Items) > 0 {
		t.Errorf("what others deleted is listed: %v", list.Items)
	}
}

// unprotected holds for all tags but one.
type unprotected struct{}

func (unprotected) Holds(q access.Question) (bool, error) { return q.Ref.Tag != "protected", nil }

// without holds for all digests but one.
type without struct{ d *registry.Digest }

func (w without) Holds(q access.Question) (bool, error) { return q.Ref.Digest != *w.d, nil }

// testS024ConditionsOnBlobs: who may not read a blob by its digest does not get it by a
// mount into a repository of his own, and who may not delete it does not.
func testS024ConditionsOnBlobs(t *testing.T, b CatalogBackend) {
	var kept registry.Digest
	rules := &registry.AccessRules{
		AdminPolicy: &registry.AccessPolicy{Users: []string{"alice"}, Actions: []string{"read", "create", "update", "delete"}},
		Repositories: map[string]registry.RepositoryRules{
			"a": {Policies: []registry.AccessPolicy{{
				Users: []string{"bob"}, Actions: []string{"read", "delete"}, Conditions: []registry.AccessCondition{{Expression: "without"}},
			}}},
			"b": {Policies: []registry.AccessPolicy{{Users: []string{"bob"}, Actions: []string{"read", "create"}}}},
		},
	}
	policy, err := access.Compile(rules, func(string) (access.Condition, error) { return without{&kept}, nil })
	must(t, "Compile", err)
	c := b.open(t, CatalogOptions{Access: policy})
	ctx, bob := t.Context(), registry.Actor{ID: "bob"}
	secret, other := c.link(t, "a", []byte("secret")).Digest, c.link(t, "a", []byte("other")).Digest
	manifest := c.image(t, "a", "x", "t")
	for _, kept = range []registry.Digest{secret, manifest} {
		_, err := c.Blob(ctx, bob, "a", kept)
		wantErr(t, "Blob", err, registry.ErrDenied)
		for _, from := range []registry.Name{"a", ""} {
			_, err := c.Mount(ctx, bob, "b", kept, from)
			wantErr(t, "Mount from "+string(from), err, registry.ErrBlobUnknown)
		}
		wantErr(t, "Unlink", c.Unlink(ctx, bob, "a", kept), registry.ErrDenied)
	}
	for _, from := range []registry.Name{"a", ""} {
		_, err = c.Mount(ctx, bob, "b", other, from)
		must(t, "Mount of another", err)
	}
	must(t, "Unlink of another", c.Unlink(ctx, bob, "a", other))
}

// testS024RestoredTags: who may not set a tag does not restore it either, by its name
// or with its manifest.
func testS024RestoredTags(t *testing.T, b CatalogBackend) {
	rules := &registry.AccessRules{
		AdminPolicy: &registry.AccessPolicy{Users: []string{"alice"}, Actions: []string{"read", "create", "update", "delete"}},
		Repositories: map[string]registry.RepositoryRules{"**": {Policies: []registry.AccessPolicy{{
			Users: []string{"bob"}, Actions: []string{"read", "create"}, Conditions: []registry.AccessCondition{{Expression: "unprotected"}},
		}}}},
	}
	policy, err := access.Compile(rules, func(string) (access.Condition, error) { return unprotected{}, nil })
	must(t, "Compile", err)
	c := b.open(t, CatalogOptions{Access: policy})
	ctx, bob := t.Context(), registry.Actor{ID: "bob"}
	d := c.put(t, "a", registry.TypeManifest, c.imageBytes(t, "a", "1"), "free", "protected")
	must(t, "DeleteManifest", c.deleteManifest(t, d))
	for _, ref := range []registry.Reference{{Digest: d}, {Tag: "protected"}} {
		if err := c.Undelete(ctx, bob, "a", ref); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("Undelete of %s: got error %v", ref, err)
		}
	}
	tags, err := c.Tags(ctx, alice, "a", registry.Page[registry.Tag]{Limit: 10})
	must(t, "Tags", err)
	if len(tags.Items) > 0 {
		t.Errorf("restored %q", tags.Items)
	}
	must(t, "Undelete", c.Undelete(ctx, bob, "a", registry.Reference{Tag: "free"}))

	c.put(t, "b", registry.TypeManifest, c.imageBytes(t, "b", "1"), "free", "protected")
	must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "b"))
	wantErr(t, "Undelete of a repository", c.Undelete(ctx, bob, "b", registry.Reference{}), registry.ErrDenied)
	must(t, "Undelete by an administrator", c.Undelete(ctx, alice, "b", registry.Reference{}))
}

// testS024DeletedWithOthers: who may not delete a tag does not delete it with its manifest
// or its repository either.
func testS024DeletedWithOthers(t *testing.T, b CatalogBackend) {
	rules := &registry.AccessRules{
		AdminPolicy: &registry.AccessPolicy{Users: []string{"alice"}, Actions: []string{"read", "create", "update", "delete"}},
		Repositories: map[string]registry.RepositoryRules{"**": {Policies: []registry.AccessPolicy{{
			Users: []string{"bob"}, Actions: []string{"delete"}, Conditions: []registry.AccessCondition{{Expression: "unprotected"}},
		}}}},
	}
	policy, err := access.Compile(rules, func(string) (access.Condition, error) { return unprotected{}, nil })
	must(t, "Compile", err)
	c := b.open(t, CatalogOptions{Access: policy})
	ctx, bob := t.Context(), registry.Actor{ID: "bob"}
	d := c.put(t, "a", registry.TypeManifest, c.imageBytes(t, "a", "1"), "free", "protected")
	other := c.put(t, "a", registry.TypeManifest, c.imageBytes(t, "a", "2"), "other")
	wantErr(t, "DeleteTag", c.DeleteTag(ctx, bob, "a", "protected", registry.Condition{}), registry.ErrDenied)
	wantErr(t, "DeleteManifest", c.DeleteManifest(ctx, bob, "a", d), registry.ErrDenied)
	wantErr(t, "DeleteRepository", c.DeleteRepository(ctx, bob, "a"), registry.ErrDenied)
	for _, tag := range []registry.Tag{"free", "protected"} {
		c.checkTag(t, "a", tag, d)
	}
	must(t, "DeleteManifest of another", c.DeleteManifest(ctx, bob, "a", other))
	must(t, "DeleteTag of a free one", c.DeleteTag(ctx, bob, "a", "free", registry.Condition{}))
	must(t, "DeleteTag by an administrator", c.DeleteTag(ctx, alice, "a", "protected", registry.Condition{}))
	must(t, "DeleteRepository", c.DeleteRepository(ctx, bob, "a"))
}
