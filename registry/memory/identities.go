package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// identities are who has credentials. [Catalog.mu] guards them.
type identities struct {
	revision    int64
	keys        []registry.SigningKey
	users       map[string]*user
	credentials map[string]*credential // by hash
}

type user struct {
	registry.User
	origin string
}

type credential struct {
	registry.Credential
	hash string
}

func newIdentities() identities {
	return identities{revision: 1, users: make(map[string]*user), credentials: make(map[string]*credential)}
}

// Trust implements [registry.Identities].
func (c *Catalog) Trust(ctx context.Context, have int64) (registry.Trust, error) {
	if err := c.lock(ctx); err != nil {
		return registry.Trust{}, err
	}
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.who.keys) == 0 || c.who.keys[0].Until < now.Add(registry.TokenKeyGrace).UnixMicro() {
		c.newTokenKey(now)
	}
	t := registry.Trust{Revision: c.who.revision}
	if t.Revision == have {
		return t, nil
	}
	for _, k := range c.who.keys {
		if k.Until > now.UnixMicro() {
			t.Keys = append(t.Keys, k)
		}
	}
	for id, u := range c.who.users {
		if u.Disabled {
			t.Disabled = append(t.Disabled, id)
		}
	}
	slices.Sort(t.Disabled)
	return t, nil
}

// newTokenKey makes a signing key. c.mu must be held.
func (c *Catalog) newTokenKey(now time.Time) {
	k := registry.SigningKey{ID: rand.Text()[:12], Seed: make([]byte, 32), Until: now.Add(registry.TokenKeyLife + registry.TokenKeyGrace).UnixMicro()}
	rand.Read(k.Seed) // never fails, see crypto/rand
	c.who.keys = slices.Insert(c.who.keys, 0, k)
	c.who.revision++
}

// RotateTokenKeys implements [registry.Identities].
func (c *Catalog) RotateTokenKeys(ctx context.Context, a registry.Actor) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.who.keys = nil
	c.newTokenKey(time.Now())
	return nil
}

// Login implements [registry.Identities].
func (c *Catalog) Login(ctx context.Context, l registry.Login) (registry.User, error) {
	if err := cmp.Or(registry.CheckUser(l.ID), registry.CheckGroups(l.Groups)); err != nil {
		return registry.User{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.User{}, err
	}
	defer c.mu.Unlock()
	now := time.Now().UnixMicro()
	u, ok := c.who.users[l.ID]
	switch {
	case !ok:
		u = &user{User: registry.User{ID: l.ID, Created: now}, origin: l.Origin}
		c.who.users[l.ID] = u
	case u.Disabled:
		return registry.User{}, registry.ErrDenied.With("the account is disabled")
	case u.Service:
		return registry.User{}, registry.ErrDenied.With("a service account does not log in")
	case l.Origin != "" && u.origin != "" && l.Origin != u.origin:
		return registry.User{}, registry.ErrDenied.With("the name belongs to somebody else")
	case !slices.Equal(u.Groups, l.Groups):
		c.who.revision++
	}
	u.Groups, u.Seen, u.origin = slices.Clone(l.Groups), now, cmp.Or(u.origin, l.Origin)
	return u.User, nil
}

// owns returns nil if a may handle the credentials of owner: its own, but not with
// a credential that is limited itself, or anybody's as an administrator.
func (c *Catalog) owns(a registry.Actor, owner string) error {
	if a.Scope != nil {
		return registry.ErrDenied.With("a credential with limits can't handle credentials")
	}
	if a.ID != "" && a.ID == owner {
		return nil
	}
	return c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin)
}

// AddCredential implements [registry.Identities].
func (c *Catalog) AddCredential(ctx context.Context, a registry.Actor, x registry.Credential, hash []byte) error {
	if err := x.Check(); err != nil {
		return err
	}
	if x.Owner != "" {
		if err := c.owns(a, x.Owner); err != nil {
			return err
		}
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	now, n := time.Now(), 0
	for h, o := range c.who.credentials {
		switch {
		case o.Kind != registry.APIKey && o.Expired(now):
			delete(c.who.credentials, h)
		case o.Kind == x.Kind && o.ID == x.ID, h == string(hash):
			return registry.ErrParameterInvalid.With("there is such a credential already")
		case o.Kind == x.Kind && o.Owner == x.Owner:
			n++
		}
	}
	if n >= registry.MaxCredentials {
		return registry.ErrTooManyRequests.With("there are %d credentials of the kind already", n)
	}
	if u, ok := c.who.users[x.Owner]; ok && u.Disabled {
		return registry.ErrDenied.With("the account is disabled")
	}
	x.Created, x.Claims = now.UnixMicro(), registry.MadeFor(a, x)
	c.who.credentials[string(hash)] = &credential{x, string(hash)}
	return nil
}

// UseCredential implements [registry.Identities].
func (c *Catalog) UseCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	if err := c.lock(ctx); err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	defer c.mu.Unlock()
	return c.useCredential(kind, hash)
}

func (c *Catalog) useCredential(kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	x, ok := c.who.credentials[string(hash)]
	if !ok || x.Kind != kind || x.Expired(time.Now()) {
		return registry.Credential{}, registry.User{}, registry.ErrUnauthorized
	}
	u := registry.User{ID: x.Owner}
	elsewhere := false
	if known, ok := c.who.users[x.Owner]; ok {
		u, elsewhere = known.User, known.origin != ""
	}
	if u.Disabled {
		return registry.Credential{}, registry.User{}, registry.ErrUnauthorized
	}
	x.Used = time.Now().UnixMicro()
	used := x.Credential
	used.Claims = registry.OwnedBy(used.Claims, u, elsewhere)
	return used, u, nil
}

// TakeCredential implements [registry.Identities].
func (c *Catalog) TakeCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	if err := c.lock(ctx); err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	defer c.mu.Unlock()
	x, u, err := c.useCredential(kind, hash)
	if err == nil {
		delete(c.who.credentials, string(hash))
		c.who.revision++
	}
	return x, u, err
}

// ClaimCredential implements [registry.Identities].
func (c *Catalog) ClaimCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, id string) error {
	if err := registry.CheckUser(a.ID); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, x := range c.who.credentials {
		if x.Kind == kind && x.ID == id && x.Owner == "" && !x.Expired(time.Now()) {
			x.Owner, x.Claims = a.ID, registry.ClaimedBy(x.Claims, a)
			return nil
		}
	}
	return registry.ErrParameterInvalid.With("nobody waits with this code")
}

// Credentials implements [registry.Identities].
func (c *Catalog) Credentials(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner string) ([]registry.Credential, error) {
	if err := c.owns(a, owner); err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var all []registry.Credential
	for _, x := range c.who.credentials {
		if x.Kind == kind && x.Owner == owner {
			all = append(all, x.Credential)
		}
	}
	slices.SortFunc(all, func(a, b registry.Credential) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// RemoveCredential implements [registry.Identities].
func (c *Catalog) RemoveCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner, id string) error {
	if err := c.owns(a, owner); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for h, x := range c.who.credentials {
		if x.Kind == kind && x.Owner == owner && x.ID == id {
			delete(c.who.credentials, h)
			c.who.revision++
			return nil
		}
	}
	return registry.ErrParameterInvalid.With("there is no such credential")
}

// Users implements [registry.Identities].
func (c *Catalog) Users(ctx context.Context, a registry.Actor, p registry.Page[string]) (registry.List[registry.User], error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.List[registry.User]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.User]{}, err
	}
	defer c.mu.Unlock()
	var names []string
	for id := range c.who.users {
		names = append(names, id)
	}
	ids := page(names, p)
	list := registry.List[registry.User]{More: ids.More}
	for _, id := range ids.Items {
		list.Items = append(list.Items, c.who.users[id].User)
	}
	return list, nil
}

// PutUser implements [registry.Identities].
func (c *Catalog) PutUser(ctx context.Context, a registry.Actor, u registry.User) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := cmp.Or(registry.CheckUser(u.ID), registry.CheckGroups(u.Groups)); err != nil {
		return err
	}
	if len(u.Note) > registry.MaxLabel {
		return registry.ErrParameterInvalid.With("a note has at most %d bytes", registry.MaxLabel)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	known, ok := c.who.users[u.ID]
	if !ok {
		known = &user{User: registry.User{ID: u.ID, Service: u.Service, Created: time.Now().UnixMicro()}}
	}
	if known.Service != u.Service {
		return registry.ErrDenied.With("%s is there already, and is not of this kind", u.ID)
	}
	c.who.users[u.ID] = known
	known.Disabled = u.Disabled
	if u.Service {
		known.Groups, known.Note = slices.Clone(u.Groups), u.Note
	}
	for h, x := range c.who.credentials {
		if u.Disabled && x.Owner == u.ID && x.Kind != registry.APIKey {
			delete(c.who.credentials, h)
		}
	}
	c.who.revision++
	return nil
}

// RemoveUser implements [registry.Identities].
func (c *Catalog) RemoveUser(ctx context.Context, a registry.Actor, id string) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	delete(c.who.users, id)
	for h, x := range c.who.credentials {
		if x.Owner == id {
			delete(c.who.credentials, h)
		}
	}
	c.who.revision++
	return nil
}
