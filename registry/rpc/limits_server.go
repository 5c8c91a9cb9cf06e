package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// limitsServer serves the parts of registry.Catalog that LimitsService has.
type limitsServer struct {
	metadatav1.UnimplementedLimitsServiceServer
	catalog registry.Catalog
}

func (s *limitsServer) ListReadOnly(ctx context.Context, req *metadatav1.ListReadOnlyRequest) (*metadatav1.ListReadOnlyResponse, error) {
	all, err := s.catalog.ReadOnlys(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListReadOnlyResponse{ReadOnly: make([]*metadatav1.ReadOnly, len(all))}
	for i, r := range all {
		resp.ReadOnly[i] = &metadatav1.ReadOnly{Repositories: text(r.Repositories), Reason: text(r.Reason), ActorId: text(r.Actor), SinceUs: r.Since}
	}
	return resp, nil
}

func (s *limitsServer) SetReadOnly(ctx context.Context, req *metadatav1.SetReadOnlyRequest) (*metadatav1.SetReadOnlyResponse, error) {
	r := registry.ReadOnly{Repositories: req.GetRepositories(), Reason: req.GetReason()}
	if err := s.catalog.SetReadOnly(ctx, actorOf(ctx, req.GetActor()), r); err != nil {
		return nil, err
	}
	return &metadatav1.SetReadOnlyResponse{}, nil
}

func (s *limitsServer) ClearReadOnly(ctx context.Context, req *metadatav1.ClearReadOnlyRequest) (*metadatav1.ClearReadOnlyResponse, error) {
	if err := s.catalog.ClearReadOnly(ctx, actorOf(ctx, req.GetActor()), req.GetRepositories()); err != nil {
		return nil, err
	}
	return &metadatav1.ClearReadOnlyResponse{}, nil
}

func (s *limitsServer) GetUsage(ctx context.Context, req *metadatav1.GetUsageRequest) (*metadatav1.GetUsageResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	u, err := s.catalog.Usage(ctx, actorOf(ctx, req.GetActor()), repo)
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetUsageResponse{Manifests: u.Manifests, Blobs: u.Blobs, Logical: u.Logical, Unique: u.Unique}, nil
}

func (s *limitsServer) NoteUploads(ctx context.Context, req *metadatav1.NoteUploadsRequest) (*metadatav1.NoteUploadsResponse, error) {
	notes := make([]registry.UploadNote, len(req.GetNotes()))
	for i, n := range req.GetNotes() {
		notes[i] = registry.UploadNote{ID: registry.UploadID(n.GetId()), Owner: n.GetOwner()}
	}
	counts, err := s.catalog.NoteUploads(ctx, notes, req.GetOwners())
	if err != nil {
		return nil, err
	}
	return &metadatav1.NoteUploadsResponse{Counts: counts}, nil
}
