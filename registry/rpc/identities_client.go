package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) Trust(ctx context.Context, have int64) (registry.Trust, error) {
	resp, err := read(ctx, c, c.who.GetTrust, &metadatav1.GetTrustRequest{Have: have})
	t := registry.Trust{Revision: resp.GetRevision(), Disabled: resp.GetDisabled()}
	for _, k := range resp.GetKeys() {
		t.Keys = append(t.Keys, registry.SigningKey{ID: k.GetId(), Seed: k.GetSeed(), Until: k.GetUntilUs()})
	}
	return t, err
}

func (c *catalog) RotateTokenKeys(ctx context.Context, a registry.Actor) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.who.RotateTokenKeys, &metadatav1.RotateTokenKeysRequest{Actor: actor})
	return err
}

func (c *catalog) Login(ctx context.Context, l registry.Login) (registry.User, error) {
	req := &metadatav1.LoginRequest{User: text(l.ID), Groups: toStrings(l.Groups), Origin: text(l.Origin)}
	resp, err := repeated(ctx, c, c.who.Login, req)
	return userFromWire(resp.GetUser()), err
}

func (c *catalog) AddCredential(ctx context.Context, a registry.Actor, x registry.Credential, hash []byte) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.who.AddCredential, &metadatav1.AddCredentialRequest{Actor: actor, Credential: credentialToWire(x), Hash: hash})
	return err
}

func (c *catalog) UseCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	resp, err := read(ctx, c, c.who.UseCredential, &metadatav1.UseCredentialRequest{Kind: text(string(kind)), Hash: hash})
	return credentialFromWire(resp.GetCredential()), userFromWire(resp.GetUser()), err
}

func (c *catalog) TakeCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	resp, err := write(ctx, c, c.who.TakeCredential, &metadatav1.TakeCredentialRequest{Kind: text(string(kind)), Hash: hash})
	return credentialFromWire(resp.GetCredential()), userFromWire(resp.GetUser()), err
}

func (c *catalog) ClaimCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, id string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.who.ClaimCredential, &metadatav1.ClaimCredentialRequest{Actor: actor, Kind: text(string(kind)), Id: text(id)})
	return err
}

func (c *catalog) Credentials(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner string) ([]registry.Credential, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.who.ListCredentials, &metadatav1.ListCredentialsRequest{Actor: actor, Kind: text(string(kind)), Owner: text(owner)})
	var all []registry.Credential
	for _, x := range resp.GetCredentials() {
		all = append(all, credentialFromWire(x))
	}
	return all, err
}

func (c *catalog) RemoveCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner, id string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.who.RemoveCredential, &metadatav1.RemoveCredentialRequest{Actor: actor, Kind: text(string(kind)), Owner: text(owner), Id: text(id)})
	return err
}

func (c *catalog) Users(ctx context.Context, a registry.Actor, p registry.Page[string]) (registry.List[registry.User], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.User]{}, err
	}
	resp, err := read(ctx, c, c.who.ListUsers, &metadatav1.ListUsersRequest{Actor: actor, Page: pageToWire(p)})
	list := registry.List[registry.User]{More: resp.GetMore()}
	for _, u := range resp.GetUsers() {
		list.Items = append(list.Items, userFromWire(u))
	}
	return list, err
}

func (c *catalog) PutUser(ctx context.Context, a registry.Actor, u registry.User) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = repeated(ctx, c, c.who.PutUser, &metadatav1.PutUserRequest{Actor: actor, User: userToWire(u)})
	return err
}

func (c *catalog) RemoveUser(ctx context.Context, a registry.Actor, id string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = repeated(ctx, c, c.who.RemoveUser, &metadatav1.RemoveUserRequest{Actor: actor, Id: text(id)})
	return err
}

func credentialToWire(x registry.Credential) *metadatav1.Credential {
	return &metadatav1.Credential{
		Kind: text(string(x.Kind)), Id: text(x.ID), Owner: text(x.Owner), Label: text(x.Label),
		Scopes: toStrings(x.Scopes), Claims: annotationsToWire(x.Claims), Agent: text(x.Agent),
		CreatedUs: x.Created, ExpiresUs: x.Expires, UsedUs: x.Used,
	}
}

func credentialFromWire(w *metadatav1.Credential) registry.Credential {
	return registry.Credential{
		Kind: registry.CredentialKind(w.GetKind()), ID: w.GetId(), Owner: w.GetOwner(), Label: w.GetLabel(),
		Scopes: w.GetScopes(), Claims: w.GetClaims(), Agent: w.GetAgent(),
		Created: w.GetCreatedUs(), Expires: w.GetExpiresUs(), Used: w.GetUsedUs(),
	}
}

func userToWire(u registry.User) *metadatav1.User {
	return &metadatav1.User{
		Id: text(u.ID), Service: u.Service, Disabled: u.Disabled, Groups: toStrings(u.Groups), Note: text(u.Note),
		CreatedUs: u.Created, SeenUs: u.Seen,
	}
}

func userFromWire(w *metadatav1.User) registry.User {
	return registry.User{
		ID: w.GetId(), Service: w.GetService(), Disabled: w.GetDisabled(), Groups: w.GetGroups(), Note: w.GetNote(),
		Created: w.GetCreatedUs(), Seen: w.GetSeenUs(),
	}
}
