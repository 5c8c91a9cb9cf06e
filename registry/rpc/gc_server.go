package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// collectorServer serves registry.Trash and registry.Collector, as catalogServer
// does the rest.
type collectorServer struct {
	metadatav1.UnimplementedCollectorServiceServer
	catalog registry.Catalog
}

func (s *collectorServer) DeleteRepository(ctx context.Context, req *metadatav1.DeleteRepositoryRequest) (*metadatav1.DeleteRepositoryResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.DeleteRepository(ctx, actorOf(ctx, req.GetActor()), repo); err != nil {
		return nil, err
	}
	return &metadatav1.DeleteRepositoryResponse{}, nil
}

func (s *collectorServer) ListDeleted(ctx context.Context, req *metadatav1.ListDeletedRequest) (*metadatav1.ListDeletedResponse, error) {
	repo, err := parseOptionalName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Deleted(ctx, actorOf(ctx, req.GetActor()), repo, pageFromWire[registry.Cursor](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, func(d registry.Deleted) *metadatav1.DeletedItem {
		return &metadatav1.DeletedItem{
			Cursor: text(string(d.Cursor)), Repository: text(string(d.Repo)), Digest: text(d.Digest.String()),
			Tag: text(string(d.Tag)), Tags: toStrings(d.Tags), Size: d.Size, ActorId: text(d.Actor), AtUs: d.At, UntilUs: d.Until,
		}
	})
	return &metadatav1.ListDeletedResponse{Items: all, More: more}, nil
}

func (s *collectorServer) Undelete(ctx context.Context, req *metadatav1.UndeleteRequest) (*metadatav1.UndeleteResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	var ref registry.Reference
	if r := req.GetReference(); r != nil {
		if ref, err = parseReference(r); err != nil {
			return nil, err
		}
	}
	if err := s.catalog.Undelete(ctx, actorOf(ctx, req.GetActor()), repo, ref); err != nil {
		return nil, err
	}
	return &metadatav1.UndeleteResponse{}, nil
}

func (s *collectorServer) Purge(ctx context.Context, req *metadatav1.PurgeRequest) (*metadatav1.PurgeResponse, error) {
	repo, err := parseOptionalName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.Purge(ctx, actorOf(ctx, req.GetActor()), repo); err != nil {
		return nil, err
	}
	return &metadatav1.PurgeResponse{}, nil
}

func (s *collectorServer) Collect(ctx context.Context, req *metadatav1.CollectRequest) (*metadatav1.CollectResponse, error) {
	c, err := s.catalog.Collect(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	return &metadatav1.CollectResponse{
		Reviews: c.Reviews, Manifests: c.Manifests, Links: c.Links, Blobs: c.Blobs, Repositories: c.Repositories,
		Bytes: c.Bytes, More: c.More, NextUs: c.Next,
	}, nil
}

func (s *collectorServer) ListDoomed(ctx context.Context, req *metadatav1.ListDoomedRequest) (*metadatav1.ListDoomedResponse, error) {
	list, err := s.catalog.Plan(ctx, actorOf(ctx, req.GetActor()), pageFromWire[registry.Cursor](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, func(d registry.Doomed) *metadatav1.DoomedItem {
		return &metadatav1.DoomedItem{
			Cursor: text(string(d.Cursor)), Kind: text(d.Kind), Repository: text(string(d.Repo)), Pool: text(string(d.Pool)),
			Digest: text(d.Digest.String()), Size: d.Size, AtUs: d.At, Reason: text(d.Reason),
		}
	})
	return &metadatav1.ListDoomedResponse{Items: all, More: more}, nil
}

// parseOptionalName parses the name of a repository, or "".
func parseOptionalName(s string) (registry.Name, error) {
	if s == "" {
		return "", nil
	}
	return registry.ParseName(s)
}
