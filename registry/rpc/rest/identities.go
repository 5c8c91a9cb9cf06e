package rest

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
)

func (s *server) ListUsers(ctx context.Context, req *apiv1.ListUsersRequest) (*apiv1.ListUsersResponse, error) {
	n, err := limitOf(req.Limit)
	if err != nil {
		return nil, err
	}
	if len(req.GetAfter()) > registry.MaxUserName {
		return nil, registry.ErrPageInvalid.With("after is longer than %d bytes", registry.MaxUserName)
	}
	list, err := s.catalog.Users(ctx, actor(ctx), registry.Page[string]{After: req.GetAfter(), Limit: n})
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListUsersResponse)
	for _, u := range list.Items {
		resp.Users = append(resp.Users, &apiv1.User{
			Id: u.ID, Service: u.Service, Disabled: u.Disabled, Groups: u.Groups, Note: u.Note, Created: moment(u.Created), Seen: moment(u.Seen),
		})
	}
	if n := len(list.Items); list.More && n > 0 {
		resp.Next = list.Items[n-1].ID
	}
	return resp, nil
}

func (s *server) PutUser(ctx context.Context, req *apiv1.PutUserRequest) (*apiv1.PutUserResponse, error) {
	if err := registry.CheckUser(req.GetId()); err != nil {
		return nil, err
	}
	u, _, err := registry.FindUser(ctx, s.catalog, actor(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	u.ID = req.GetId()
	if req.Service != nil {
		u.Service = req.GetService()
	}
	if req.Disabled != nil {
		u.Disabled = req.GetDisabled()
	}
	if !u.Service && (req.Groups != nil || req.Note != nil) {
		return nil, registry.ErrParameterInvalid.With("groups and a note are for service accounts: those of others come from where they log in")
	}
	if req.Groups != nil {
		u.Groups = split(req.GetGroups(), ";")
	}
	if req.Note != nil {
		u.Note = req.GetNote()
	}
	if err := s.catalog.PutUser(ctx, actor(ctx), u); err != nil {
		return nil, err
	}
	return &apiv1.PutUserResponse{}, nil
}

func (s *server) DeleteUser(ctx context.Context, req *apiv1.DeleteUserRequest) (*apiv1.DeleteUserResponse, error) {
	if err := registry.CheckUser(req.GetId()); err != nil {
		return nil, err
	}
	if err := s.catalog.RemoveUser(ctx, actor(ctx), req.GetId()); err != nil {
		return nil, err
	}
	return &apiv1.DeleteUserResponse{}, nil
}

// ownerOf returns whose keys a request is about.
func ownerOf(a registry.Actor, named string) (string, error) {
	if named != "" {
		return named, registry.CheckUser(named)
	}
	if a.Anonymous() {
		return "", registry.ErrParameterInvalid.With("the parameter user is missing: nobody has said who asks")
	}
	return a.ID, nil
}

func keyOf(c registry.Credential) *apiv1.Key {
	return &apiv1.Key{Id: c.ID, User: c.Owner, Label: c.Label, Scopes: c.Scopes, Created: moment(c.Created), Expires: moment(c.Expires), Used: moment(c.Used)}
}

func (s *server) ListKeys(ctx context.Context, req *apiv1.ListKeysRequest) (*apiv1.ListKeysResponse, error) {
	a := actor(ctx)
	owner, err := ownerOf(a, req.GetUser())
	if err != nil {
		return nil, err
	}
	all, err := s.catalog.Credentials(ctx, a, registry.APIKey, owner)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListKeysResponse)
	for _, c := range all {
		resp.Keys = append(resp.Keys, keyOf(c))
	}
	return resp, nil
}

func (s *server) CreateKey(ctx context.Context, req *apiv1.CreateKeyRequest) (*apiv1.CreateKeyResponse, error) {
	a := actor(ctx)
	owner, err := ownerOf(a, req.GetUser())
	if err != nil {
		return nil, err
	}
	c := registry.Credential{
		Kind: registry.APIKey, ID: strings.ToLower(rand.Text()), Owner: owner, Label: req.GetLabel(), Scopes: split(req.GetScopes(), " "), Agent: Base, Created: time.Now().UnixMicro(),
	}
	for _, text := range c.Scopes {
		if _, err := scope.Parse(text); err != nil {
			return nil, err
		}
	}
	if c.Expires, err = expiry(req.GetExpires()); err != nil {
		return nil, err
	}
	if err := s.mayMake(ctx, a, &c); err != nil {
		return nil, err
	}
	secret := registry.NewSecret(registry.APIKeyPrefix)
	hash := registry.SecretHash(registry.APIKey, secret)
	if err := s.catalog.AddCredential(ctx, a, c, hash[:]); err != nil {
		return nil, err
	}
	return &apiv1.CreateKeyResponse{Key: keyOf(c), Secret: secret}, nil
}

// expiry returns when a key ends, 0: never.
func expiry(t *timestamppb.Timestamp) (int64, error) {
	if t == nil {
		return 0, nil
	}
	at := t.AsTime()
	switch {
	case t.CheckValid() != nil || at.Year() > 9999:
		return 0, registry.ErrParameterInvalid.With("expires is a time such as 2026-11-30T12:00:00Z")
	case !at.After(time.Now()):
		return 0, registry.ErrParameterInvalid.With("expires has passed")
	}
	return at.UnixMicro(), nil
}

// mayMake refuses a key that would live longer than the one that it is made with, and
// gives one of the caller's own what is known of the caller. The catalog decides the
// rest.
func (s *server) mayMake(ctx context.Context, a registry.Actor, c *registry.Credential) error {
	if until, err := strconv.ParseInt(a.Claims[registry.ClaimUntil], 10, 64); err == nil {
		if c.Expires > until {
			return registry.ErrDenied.With("an API key can't make one that lives longer")
		}
		if c.Expires == 0 {
			c.Expires = until
		}
	}
	if a.Anonymous() || a.System || c.Owner != a.ID {
		return nil
	}
	switch a.Claims[registry.ClaimBy] {
	case "key":
		return registry.ErrDenied.With("an API key makes none for its owner here: log in")
	case "":
		// A key has the groups that its owner has now. A session knows what they were.
		if a.Scope == nil {
			if _, err := s.catalog.Login(ctx, registry.Login{ID: a.ID, Groups: a.Groups}); err != nil {
				return err
			}
		}
	}
	c.Claims = registry.LastingClaims(a.Claims)
	return nil
}

func (s *server) DeleteKey(ctx context.Context, req *apiv1.DeleteKeyRequest) (*apiv1.DeleteKeyResponse, error) {
	a := actor(ctx)
	owner, err := ownerOf(a, req.GetUser())
	if err != nil {
		return nil, err
	}
	if req.GetId() == "" || len(req.GetId()) > registry.MaxCredentialID {
		return nil, registry.ErrParameterInvalid.With("the parameter id is missing, or no identity of a key")
	}
	if err := s.catalog.RemoveCredential(ctx, a, registry.APIKey, owner, req.GetId()); err != nil {
		return nil, err
	}
	return &apiv1.DeleteKeyResponse{}, nil
}
