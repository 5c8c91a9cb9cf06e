package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// identitiesServer serves the part of registry.Catalog that IdentitiesService has.
type identitiesServer struct {
	metadatav1.UnimplementedIdentitiesServiceServer
	catalog registry.Catalog
}

func (s *identitiesServer) GetTrust(ctx context.Context, req *metadatav1.GetTrustRequest) (*metadatav1.GetTrustResponse, error) {
	t, err := s.catalog.Trust(ctx, req.GetHave())
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.GetTrustResponse{Revision: t.Revision, Disabled: toStrings(t.Disabled)}
	for _, k := range t.Keys {
		resp.Keys = append(resp.Keys, &metadatav1.SigningKey{Id: k.ID, Seed: k.Seed, UntilUs: k.Until})
	}
	return resp, nil
}

func (s *identitiesServer) RotateTokenKeys(ctx context.Context, req *metadatav1.RotateTokenKeysRequest) (*metadatav1.RotateTokenKeysResponse, error) {
	if err := s.catalog.RotateTokenKeys(ctx, actorOf(ctx, req.GetActor())); err != nil {
		return nil, err
	}
	return &metadatav1.RotateTokenKeysResponse{}, nil
}

func (s *identitiesServer) Login(ctx context.Context, req *metadatav1.LoginRequest) (*metadatav1.LoginResponse, error) {
	u, err := s.catalog.Login(ctx, registry.Login{ID: req.GetUser(), Groups: req.GetGroups(), Origin: req.GetOrigin()})
	if err != nil {
		return nil, err
	}
	return &metadatav1.LoginResponse{User: userToWire(u)}, nil
}

func (s *identitiesServer) AddCredential(ctx context.Context, req *metadatav1.AddCredentialRequest) (*metadatav1.AddCredentialResponse, error) {
	x := credentialFromWire(req.GetCredential())
	if !speaks(ctx) {
		// Sessions and the like are a gateway's word, and so are claims, which access
		// conditions believe: it has seen who logged in.
		if x.Kind != registry.APIKey {
			return nil, registry.ErrDenied.With("only API keys can be made with this certificate")
		}
		x.Claims = nil
	}
	if err := s.catalog.AddCredential(ctx, actorOf(ctx, req.GetActor()), x, req.GetHash()); err != nil {
		return nil, err
	}
	return &metadatav1.AddCredentialResponse{}, nil
}

func (s *identitiesServer) UseCredential(ctx context.Context, req *metadatav1.UseCredentialRequest) (*metadatav1.UseCredentialResponse, error) {
	x, u, err := s.catalog.UseCredential(ctx, registry.CredentialKind(req.GetKind()), req.GetHash())
	if err != nil {
		return nil, err
	}
	return &metadatav1.UseCredentialResponse{Credential: credentialToWire(x), User: userToWire(u)}, nil
}

func (s *identitiesServer) TakeCredential(ctx context.Context, req *metadatav1.TakeCredentialRequest) (*metadatav1.TakeCredentialResponse, error) {
	x, u, err := s.catalog.TakeCredential(ctx, registry.CredentialKind(req.GetKind()), req.GetHash())
	if err != nil {
		return nil, err
	}
	return &metadatav1.TakeCredentialResponse{Credential: credentialToWire(x), User: userToWire(u)}, nil
}

func (s *identitiesServer) ClaimCredential(ctx context.Context, req *metadatav1.ClaimCredentialRequest) (*metadatav1.ClaimCredentialResponse, error) {
	if err := s.catalog.ClaimCredential(ctx, actorOf(ctx, req.GetActor()), registry.CredentialKind(req.GetKind()), req.GetId()); err != nil {
		return nil, err
	}
	return &metadatav1.ClaimCredentialResponse{}, nil
}

func (s *identitiesServer) ListCredentials(ctx context.Context, req *metadatav1.ListCredentialsRequest) (*metadatav1.ListCredentialsResponse, error) {
	all, err := s.catalog.Credentials(ctx, actorOf(ctx, req.GetActor()), registry.CredentialKind(req.GetKind()), req.GetOwner())
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListCredentialsResponse{Credentials: make([]*metadatav1.Credential, len(all))}
	for i, x := range all {
		resp.Credentials[i] = credentialToWire(x)
	}
	return resp, nil
}

func (s *identitiesServer) RemoveCredential(ctx context.Context, req *metadatav1.RemoveCredentialRequest) (*metadatav1.RemoveCredentialResponse, error) {
	if err := s.catalog.RemoveCredential(ctx, actorOf(ctx, req.GetActor()), registry.CredentialKind(req.GetKind()), req.GetOwner(), req.GetId()); err != nil {
		return nil, err
	}
	return &metadatav1.RemoveCredentialResponse{}, nil
}

func (s *identitiesServer) ListUsers(ctx context.Context, req *metadatav1.ListUsersRequest) (*metadatav1.ListUsersResponse, error) {
	list, err := s.catalog.Users(ctx, actorOf(ctx, req.GetActor()), pageFromWire[string](req.GetPage()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListUsersResponse{More: list.More}
	for _, u := range list.Items {
		resp.Users = append(resp.Users, userToWire(u))
	}
	return resp, nil
}

func (s *identitiesServer) PutUser(ctx context.Context, req *metadatav1.PutUserRequest) (*metadatav1.PutUserResponse, error) {
	if err := s.catalog.PutUser(ctx, actorOf(ctx, req.GetActor()), userFromWire(req.GetUser())); err != nil {
		return nil, err
	}
	return &metadatav1.PutUserResponse{}, nil
}

func (s *identitiesServer) RemoveUser(ctx context.Context, req *metadatav1.RemoveUserRequest) (*metadatav1.RemoveUserResponse, error) {
	if err := s.catalog.RemoveUser(ctx, actorOf(ctx, req.GetActor()), req.GetId()); err != nil {
		return nil, err
	}
	return &metadatav1.RemoveUserResponse{}, nil
}
