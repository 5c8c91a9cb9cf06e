package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) Trusted(ctx context.Context) ([]registry.TrustedKey, error) {
	resp, err := read(ctx, c, c.trust.ListTrusted, &metadatav1.ListTrustedRequest{})
	var all []registry.TrustedKey
	for _, k := range resp.GetKeys() {
		all = append(all, registry.TrustedKey{
			ID: k.GetId(), Tool: k.GetTool(), Store: k.GetStore(), PEM: k.GetPem(), Actor: k.GetActorId(), Since: k.GetSinceUs(),
		})
	}
	return all, err
}

func (c *catalog) AddTrusted(ctx context.Context, a registry.Actor, k registry.TrustedKey) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = repeated(ctx, c, c.trust.AddTrusted, &metadatav1.AddTrustedRequest{
		Actor: actor, Key: &metadatav1.TrustedKey{Tool: text(k.Tool), Store: text(k.Store), Pem: text(k.PEM)},
	})
	return err
}

func (c *catalog) RemoveTrusted(ctx context.Context, a registry.Actor, id string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.trust.RemoveTrusted, &metadatav1.RemoveTrustedRequest{Actor: actor, Id: text(id)})
	return err
}

func (c *catalog) Parents(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Digest, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.trust.ListParents, &metadatav1.ListParentsRequest{Actor: actor, Repository: string(repo), Digest: string(d)})
	var all []registry.Digest
	for _, d := range resp.GetDigests() {
		all = append(all, registry.Digest(d))
	}
	return all, err
}

// trustServer serves the part of registry.Catalog that TrustService has.
type trustServer struct {
	metadatav1.UnimplementedTrustServiceServer
	catalog registry.Catalog
}

func (s *trustServer) ListTrusted(ctx context.Context, _ *metadatav1.ListTrustedRequest) (*metadatav1.ListTrustedResponse, error) {
	all, err := s.catalog.Trusted(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(metadatav1.ListTrustedResponse)
	for _, k := range all {
		resp.Keys = append(resp.Keys, &metadatav1.TrustedKey{
			Id: text(k.ID), Tool: text(k.Tool), Store: text(k.Store), Pem: text(k.PEM), ActorId: text(k.Actor), SinceUs: k.Since,
		})
	}
	return resp, nil
}

func (s *trustServer) AddTrusted(ctx context.Context, req *metadatav1.AddTrustedRequest) (*metadatav1.AddTrustedResponse, error) {
	k := registry.TrustedKey{Tool: req.GetKey().GetTool(), Store: req.GetKey().GetStore(), PEM: req.GetKey().GetPem()}
	if err := s.catalog.AddTrusted(ctx, actorOf(ctx, req.GetActor()), k); err != nil {
		return nil, err
	}
	return &metadatav1.AddTrustedResponse{}, nil
}

func (s *trustServer) RemoveTrusted(ctx context.Context, req *metadatav1.RemoveTrustedRequest) (*metadatav1.RemoveTrustedResponse, error) {
	if err := s.catalog.RemoveTrusted(ctx, actorOf(ctx, req.GetActor()), req.GetId()); err != nil {
		return nil, err
	}
	return &metadatav1.RemoveTrustedResponse{}, nil
}

func (s *trustServer) ListParents(ctx context.Context, req *metadatav1.ListParentsRequest) (*metadatav1.ListParentsResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	d, err := registry.ParseDigest(req.GetDigest())
	if err != nil {
		return nil, err
	}
	all, err := s.catalog.Parents(ctx, actorOf(ctx, req.GetActor()), repo, d)
	if err != nil {
		return nil, err
	}
	resp := new(metadatav1.ListParentsResponse)
	for _, p := range all {
		resp.Digests = append(resp.Digests, string(p))
	}
	return resp, nil
}
