package registrytest

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func identityTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"TokenKeys", testTokenKeys},
		{"S007S051Logins", testLogins},
		{"Credentials", testCredentials},
		{"S058CredentialsOfOneKind", testCredentialsOfOneKind},
		{"CredentialsAreBounded", testCredentialsAreBounded},
		{"CredentialTakenOnce", testCredentialTakenOnce},
		{"CredentialClaimedOnce", testCredentialClaimedOnce},
		{"S022DisabledUser", testDisabledUser},
		{"ServiceAccount", testServiceAccount},
		{"KeyByAnother", testKeyByAnother},
		{"RemovedUser", testRemovedUser},
		{"UsersArePaged", testUsersArePaged},
	}
}

func hashOf(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// credential stores a credential of alice whose secret is its ID.
func (c *catalog) credential(t *testing.T, x registry.Credential) {
	t.Helper()
	must(t, "AddCredential", c.AddCredential(t.Context(), alice, x, hashOf(x.ID)))
}

func testTokenKeys(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	first, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	if len(first.Keys) != 1 || len(first.Keys[0].Seed) != 32 || first.Keys[0].ID == "" || first.Keys[0].Until <= time.Now().UnixMicro() {
		t.Fatalf("the first keys: %d of them", len(first.Keys))
	}
	again, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	if diff := cmp.Diff(first, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Trust changed by itself: %s", diff)
	}
	same, err := c.Trust(t.Context(), first.Revision)
	must(t, "Trust", err)
	if same.Revision != first.Revision || len(same.Keys) != 0 {
		t.Errorf("Trust of a known revision: %d, want %d, and %d keys", same.Revision, first.Revision, len(same.Keys))
	}
	must(t, "RotateTokenKeys", c.RotateTokenKeys(t.Context(), alice))
	after, err := c.Trust(t.Context(), first.Revision)
	must(t, "Trust", err)
	if after.Revision <= first.Revision || len(after.Keys) != 1 || after.Keys[0].ID == first.Keys[0].ID {
		t.Errorf("after a rotation: revision %d after %d, %d keys", after.Revision, first.Revision, len(after.Keys))
	}
}

func testLogins(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	login := func(id, origin string, groups ...string) error {
		u, err := c.Login(t.Context(), registry.Login{ID: id, Origin: origin, Groups: groups})
		if err == nil && (u.ID != id || u.Seen == 0 || !cmp.Equal(u.Groups, groups, cmpopts.EquateEmpty())) {
			t.Errorf("Login of %s: %+v", id, u)
		}
		return err
	}
	must(t, "Login", login("bob", "https://a\n1", "x", "y"))
	before, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	must(t, "Login", login("bob", "https://a\n1", "x", "y"))
	must(t, "Login elsewhere", login("bob", "", "x", "y"))
	same, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	if same.Revision != before.Revision {
		t.Error("a login that changes nothing made gateways forget what they know")
	}
	// S-007: a group that is gone is gone.
	must(t, "Login", login("bob", "https://a\n1", "y"))
	after, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	if after.Revision == before.Revision {
		t.Error("gateways are not told of a group that is gone")
	}
	// S-051: the same name from elsewhere is somebody else.
	wantErr(t, "Login of another bob", login("bob", "https://b\n1"), registry.ErrDenied)
	wantErr(t, "Login of another bob", login("bob", "https://a\n2"), registry.ErrDenied)
	for _, id := range []string{"", strings.Repeat("x", registry.MaxUserName+1), "a\nb", "a\x00"} {
		wantErr(t, fmt.Sprintf("Login of %.9q", id), login(id, ""), registry.ErrParameterInvalid)
	}
	wantErr(t, "Login with many groups", login("bob", "", make([]string, registry.MaxUserGroups+1)...), registry.ErrParameterInvalid)
}

func testCredentials(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	x := registry.Credential{
		Kind: registry.APIKey, ID: "one", Owner: alice.ID, Label: "laptop", Agent: "curl", Scopes: []string{"a/**:pull", "b:push"},
		Claims: map[string]string{"iss": "test"}, Expires: time.Now().Add(time.Hour).UnixMicro(),
	}
	c.credential(t, x)
	c.credential(t, registry.Credential{Kind: registry.APIKey, ID: "two", Owner: alice.ID})
	_, err := c.Login(t.Context(), registry.Login{ID: alice.ID, Groups: []string{"g"}})
	must(t, "Login", err)

	got, u, err := c.UseCredential(t.Context(), registry.APIKey, hashOf("one"))
	must(t, "UseCredential", err)
	times := cmpopts.IgnoreFields(registry.Credential{}, "Created", "Used")
	if diff := cmp.Diff(x, got, times); diff != "" {
		t.Errorf("UseCredential: -want +got\n%s", diff)
	}
	if u.ID != alice.ID || !cmp.Equal(u.Groups, []string{"g"}) {
		t.Errorf("UseCredential: owner %+v", u)
	}
	all, err := c.Credentials(t.Context(), alice, registry.APIKey, alice.ID)
	must(t, "Credentials", err)
	want := []registry.Credential{x, {Kind: registry.APIKey, ID: "two", Owner: alice.ID}}
	if diff := cmp.Diff(want, all, times, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Credentials: -want +got\n%s", diff)
	}
	before, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	wantErr(t, "RemoveCredential of somebody else", c.RemoveCredential(t.Context(), alice, registry.APIKey, "bob", "one"), registry.ErrParameterInvalid)
	must(t, "RemoveCredential", c.RemoveCredential(t.Context(), alice, registry.APIKey, alice.ID, "one"))
	wantErr(t, "RemoveCredential again", c.RemoveCredential(t.Context(), alice, registry.APIKey, alice.ID, "one"), registry.ErrParameterInvalid)
	_, _, err = c.UseCredential(t.Context(), registry.APIKey, hashOf("one"))
	wantErr(t, "UseCredential of what was removed", err, registry.ErrUnauthorized)
	after, err := c.Trust(t.Context(), before.Revision)
	must(t, "Trust", err)
	if after.Revision == before.Revision {
		t.Error("gateways are not told of a key that is gone")
	}
}

// S-058: a secret of one kind is none of another.
func testCredentialsOfOneKind(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	kinds := []registry.CredentialKind{registry.APIKey, registry.Session, registry.RefreshToken, registry.DeviceCode}
	for _, kind := range kinds {
		c.credential(t, registry.Credential{Kind: kind, ID: string(kind), Owner: alice.ID})
		for _, as := range kinds {
			_, _, err := c.UseCredential(t.Context(), as, hashOf(string(kind)))
			if as == kind {
				must(t, "UseCredential", err)
			} else {
				wantErr(t, fmt.Sprintf("%s as %s", kind, as), err, registry.ErrUnauthorized)
				_, _, err = c.TakeCredential(t.Context(), as, hashOf(string(kind)))
				wantErr(t, fmt.Sprintf("%s taken as %s", kind, as), err, registry.ErrUnauthorized)
			}
		}
	}
	c.credential(t, registry.Credential{Kind: registry.APIKey, ID: "old", Owner: alice.ID, Expires: time.Now().Add(-time.Minute).UnixMicro()})
	_, _, err := c.UseCredential(t.Context(), registry.APIKey, hashOf("old"))
	wantErr(t, "UseCredential of an expired one", err, registry.ErrUnauthorized)
	_, _, err = c.UseCredential(t.Context(), registry.APIKey, nil)
	wantErr(t, "UseCredential of nothing", err, registry.ErrUnauthorized)
}

func testCredentialsAreBounded(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	good := registry.Credential{Kind: registry.APIKey, ID: "x", Owner: alice.ID}
	c.credential(t, good)
	for what, change := range map[string]func(*registry.Credential){
		"no kind":           func(x *registry.Credential) { x.Kind = "password" },
		"no identity":       func(x *registry.Credential) { x.ID = "" },
		"a long identity":   func(x *registry.Credential) { x.ID = strings.Repeat("x", registry.MaxCredentialID+1) },
		"no owner":          func(x *registry.Credential) { x.Owner = "" },
		"a long owner":      func(x *registry.Credential) { x.Owner = strings.Repeat("x", registry.MaxUserName+1) },
		"a long label":      func(x *registry.Credential) { x.Label = strings.Repeat("x", registry.MaxLabel+1) },
		"many scopes":       func(x *registry.Credential) { x.Scopes = make([]string, 101) },
		"a long scope":      func(x *registry.Credential) { x.Scopes = []string{strings.Repeat("x", 501)} },
		"long claims":       func(x *registry.Credential) { x.Claims = map[string]string{"a": strings.Repeat("x", 9000)} },
		"an identity twice": func(x *registry.Credential) { x.ID = "x" },
	} {
		x := good
		x.ID = "y"
		change(&x)
		wantErr(t, "AddCredential with "+what, c.AddCredential(t.Context(), alice, x, hashOf(what)), registry.ErrParameterInvalid)
	}
	good.ID = "z"
	wantErr(t, "AddCredential with a hash twice", c.AddCredential(t.Context(), alice, good, hashOf("x")), registry.ErrParameterInvalid)
}

func testCredentialTakenOnce(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	c.credential(t, registry.Credential{Kind: registry.RefreshToken, ID: "r", Owner: alice.ID, Label: "x"})
	got, u, err := c.TakeCredential(t.Context(), registry.RefreshToken, hashOf("r"))
	must(t, "TakeCredential", err)
	if got.Label != "x" || u.ID != alice.ID {
		t.Errorf("TakeCredential: %+v of %+v", got, u)
	}
	_, _, err = c.TakeCredential(t.Context(), registry.RefreshToken, hashOf("r"))
	wantErr(t, "TakeCredential again", err, registry.ErrUnauthorized)
}

func testCredentialClaimedOnce(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	must(t, "AddCredential", c.AddCredential(t.Context(), registry.Actor{}, registry.Credential{Kind: registry.DeviceCode, ID: "AB", Claims: map[string]string{"life": "60"}, Expires: time.Now().Add(time.Hour).UnixMicro()}, hashOf("d")))
	got, u, err := c.UseCredential(t.Context(), registry.DeviceCode, hashOf("d"))
	must(t, "UseCredential", err)
	if got.Owner != "" || u.ID != "" {
		t.Errorf("a code nobody has claimed is %+v's", u)
	}
	wantErr(t, "ClaimCredential of nobody", c.ClaimCredential(t.Context(), registry.Actor{}, registry.DeviceCode, "AB"), registry.ErrParameterInvalid)
	owner := alice
	owner.Claims = map[string]string{registry.ClaimVia: "htpasswd", registry.ClaimBy: "session", "life": "1000000"}
	must(t, "ClaimCredential", c.ClaimCredential(t.Context(), owner, registry.DeviceCode, "AB"))
	wantErr(t, "ClaimCredential again", c.ClaimCredential(t.Context(), registry.Actor{ID: "eve"}, registry.DeviceCode, "AB"), registry.ErrParameterInvalid)
	got, _, err = c.TakeCredential(t.Context(), registry.DeviceCode, hashOf("d"))
	must(t, "TakeCredential", err)
	if got.Owner != alice.ID {
		t.Errorf("the code is %q's, want %q's", got.Owner, alice.ID)
	}
	if diff := cmp.Diff(map[string]string{registry.ClaimVia: "htpasswd", "life": "60"}, got.Claims); diff != "" {
		t.Errorf("claims of the code (-want +got):\n%s", diff)
	}
}

// S-022 and S-039: who is disabled does not come in again, by whatever way.
func testDisabledUser(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	_, err := c.Login(t.Context(), registry.Login{ID: alice.ID, Origin: "o"})
	must(t, "Login", err)
	c.credential(t, registry.Credential{Kind: registry.APIKey, ID: "k", Owner: alice.ID})
	c.credential(t, registry.Credential{Kind: registry.Session, ID: "s", Owner: alice.ID})
	before, err := c.Trust(t.Context(), 0)
	must(t, "Trust", err)
	must(t, "PutUser", c.PutUser(t.Context(), alice, registry.User{ID: alice.ID, Disabled: true}))

	trust, err := c.Trust(t.Context(), before.Revision)
	must(t, "Trust", err)
	if trust.Revision == before.Revision || !cmp.Equal(trust.Disabled, []string{alice.ID}) {
		t.Errorf("Trust: revision %d after %d, disabled %q", trust.Revision, before.Revision, trust.Disabled)
	}
	_, err = c.Login(t.Context(), registry.Login{ID: alice.ID, Origin: "o"})
	wantErr(t, "Login", err, registry.ErrDenied)
	for kind, secret := range map[registry.CredentialKind]string{registry.APIKey: "k", registry.Session: "s"} {
		_, _, err = c.UseCredential(t.Context(), kind, hashOf(secret))
		wantErr(t, "UseCredential "+secret, err, registry.ErrUnauthorized)
	}
	err = c.AddCredential(t.Context(), alice, registry.Credential{Kind: registry.APIKey, ID: "k2", Owner: alice.ID}, hashOf("k2"))
	wantErr(t, "AddCredential", err, registry.ErrDenied)

	must(t, "PutUser", c.PutUser(t.Context(), alice, registry.User{ID: alice.ID}))
	_, _, err = c.UseCredential(t.Context(), registry.APIKey, hashOf("k"))
	must(t, "UseCredential of a key after enabling", err)
	_, _, err = c.UseCredential(t.Context(), registry.Session, hashOf("s"))
	wantErr(t, "UseCredential of a session after enabling", err, registry.ErrUnauthorized)
	// Nobody has heard of this one yet.
	must(t, "PutUser", c.PutUser(t.Context(), alice, registry.User{ID: "mallory", Disabled: true}))
	_, err = c.Login(t.Context(), registry.Login{ID: "mallory"})
	wantErr(t, "Login", err, registry.ErrDenied)
}

func testServiceAccount(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	want := registry.User{ID: "ci", Service: true, Groups: []string{"builders"}, Note: "builds"}
	must(t, "PutUser", c.PutUser(t.Context(), alice, want))
	must(t, "AddCredential", c.AddCredential(t.Context(), alice, registry.Credential{Kind: registry.APIKey, ID: "k", Owner: "ci"}, hashOf("k")))
	_, u, err := c.UseCredential(t.Context(), registry.APIKey, hashOf("k"))
	must(t, "UseCredential", err)
	if diff := cmp.Diff(want, u, cmpopts.IgnoreFields(registry.User{}, "Created")); diff != "" {
		t.Errorf("the owner: -want +got\n%s", diff)
	}
	_, err = c.Login(t.Context(), registry.Login{ID: "ci"})
	wantErr(t, "Login", err, registry.ErrDenied)
	wantErr(t, "PutUser as a person", c.PutUser(t.Context(), alice, registry.User{ID: "ci"}), registry.ErrDenied)
	_, err = c.Login(t.Context(), registry.Login{ID: "bob"})
	must(t, "Login", err)
	wantErr(t, "PutUser of a person as a service account", c.PutUser(t.Context(), alice, registry.User{ID: "bob", Service: true}), registry.ErrDenied)
}

// testKeyByAnother: what an operator makes for a user says that it ends with the user,
// unless that is a service account or one who logs in at a provider, then or later.
func testKeyByAnother(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	root := registry.Actor{System: true}
	key := func(by registry.Actor, owner, id string, claims map[string]string) {
		t.Helper()
		must(t, "AddCredential", c.AddCredential(t.Context(), by, registry.Credential{Kind: registry.APIKey, ID: id, Owner: owner, Claims: claims}, hashOf(id)))
	}
	via := func(id, want string) {
		t.Helper()
		x, _, err := c.UseCredential(t.Context(), registry.APIKey, hashOf(id))
		must(t, "UseCredential", err)
		if got := x.Claims[registry.ClaimVia]; got != want {
			t.Errorf("%s ends with a user of %q, want %q", id, got, want)
		}
	}
	key(alice, alice.ID, "own", map[string]string{"x": "y"})
	key(alice, alice.ID, "own of a file", map[string]string{registry.ClaimVia: "htpasswd"})
	key(alice, "bob", "by an administrator", nil)
	key(root, "bob", "by the operator", nil)
	key(root, "ci", "before there was an account", nil)
	key(root, "carol", "before the login", nil)
	for id, want := range map[string]string{
		"own": "", "own of a file": "htpasswd", "by an administrator": registry.ViaAny, "by the operator": registry.ViaAny,
		"before there was an account": registry.ViaAny, "before the login": registry.ViaAny,
	} {
		via(id, want)
	}
	must(t, "PutUser", c.PutUser(t.Context(), alice, registry.User{ID: "ci", Service: true}))
	_, err := c.Login(t.Context(), registry.Login{ID: "carol", Origin: "https://sso.example carol"})
	must(t, "Login", err)
	_, err = c.Login(t.Context(), registry.Login{ID: "bob"})
	must(t, "Login", err)
	key(root, "ci", "of the account", nil)
	for id, want := range map[string]string{
		"before there was an account": "", "of the account": "", "before the login": "", "by the operator": registry.ViaAny,
	} {
		via(id, want)
	}
}

func testRemovedUser(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	_, err := c.Login(t.Context(), registry.Login{ID: alice.ID, Origin: "o"})
	must(t, "Login", err)
	c.credential(t, registry.Credential{Kind: registry.APIKey, ID: "k", Owner: alice.ID})
	must(t, "RemoveUser", c.RemoveUser(t.Context(), alice, alice.ID))
	_, _, err = c.UseCredential(t.Context(), registry.APIKey, hashOf("k"))
	wantErr(t, "UseCredential", err, registry.ErrUnauthorized)
	_, err = c.Login(t.Context(), registry.Login{ID: alice.ID, Origin: "another"})
	must(t, "Login", err)
}

func testUsersArePaged(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	for _, id := range []string{"c", "a", "b"} {
		_, err := c.Login(t.Context(), registry.Login{ID: id})
		must(t, "Login", err)
	}
	var got []string
	for after := ""; ; {
		list, err := c.Users(t.Context(), alice, registry.Page[string]{After: after, Limit: 2})
		must(t, "Users", err)
		for _, u := range list.Items {
			got, after = append(got, u.ID), u.ID
		}
		if !list.More {
			break
		}
	}
	if want := []string{"a", "b", "c"}; !cmp.Equal(got, want) {
		t.Errorf("Users: got %q, want %q", got, want)
	}
}
