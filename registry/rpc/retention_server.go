package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// retentionServer serves the parts of registry.Catalog that RetentionService has.
type retentionServer struct {
	metadatav1.UnimplementedRetentionServiceServer
	catalog registry.Catalog
}

func (s *retentionServer) CountPulls(ctx context.Context, req *metadatav1.CountPullsRequest) (*metadatav1.CountPullsResponse, error) {
	pulls := make([]registry.Pull, len(req.GetPulls()))
	for i, w := range req.GetPulls() {
		if _, _, err := repoAndDigest(w.GetRepository(), w.GetDigest()); err != nil {
			return nil, err
		}
		if w.GetTag() != "" {
			if _, err := registry.ParseTag(w.GetTag()); err != nil {
				return nil, err
			}
		}
		pulls[i] = pullFromWire(w)
	}
	if err := s.catalog.CountPulls(ctx, pulls); err != nil {
		return nil, err
	}
	return &metadatav1.CountPullsResponse{}, nil
}

func (s *retentionServer) ListPulls(ctx context.Context, req *metadatav1.ListPullsRequest) (*metadatav1.ListPullsResponse, error) {
	repo, d, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.PullsOf(ctx, actorOf(ctx, req.GetActor()), repo, d, pageFromWire[registry.Tag](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, pullToWire)
	return &metadatav1.ListPullsResponse{Pulls: all, More: more}, nil
}

func (s *retentionServer) ExplainRetention(ctx context.Context, req *metadatav1.ExplainRetentionRequest) (*metadatav1.ExplainRetentionResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	var only registry.Reference
	if req.GetOnly() != "" {
		if only, err = registry.ParseReference(req.GetOnly()); err != nil {
			return nil, err
		}
	}
	list, err := s.catalog.ExplainRetention(ctx, actorOf(ctx, req.GetActor()), repo, only, pageFromWire[string](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, func(d registry.RetentionDecision) *metadatav1.RetentionDecision {
		return &metadatav1.RetentionDecision{
			Tag: text(string(d.Tag)), Digest: text(d.Digest.String()), Keep: d.Keep, Policy: size32(d.Policy), Entry: size32(d.Entry),
			Rule: text(d.Rule), Reason: text(d.Reason), PushedUs: d.Pushed, PulledUs: d.Pulled,
		}
	})
	return &metadatav1.ExplainRetentionResponse{Decisions: all, More: more}, nil
}

func (s *retentionServer) ApplyRetention(ctx context.Context, req *metadatav1.ApplyRetentionRequest) (*metadatav1.ApplyRetentionResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	r, err := s.catalog.ApplyRetention(ctx, actorOf(ctx, req.GetActor()), repo)
	if err != nil {
		return nil, err
	}
	return &metadatav1.ApplyRetentionResponse{DryRun: r.DryRun, Kept: r.Kept, Deleted: r.Deleted}, nil
}

func (s *retentionServer) RollbackTag(ctx context.Context, req *metadatav1.RollbackTagRequest) (*metadatav1.RollbackTagResponse, error) {
	repo, d, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	tag, err := registry.ParseTag(req.GetTag())
	if err != nil {
		return nil, err
	}
	cond, err := parseCondition(req.GetCondition())
	if err != nil {
		return nil, err
	}
	ch, err := s.catalog.RollbackTag(ctx, actorOf(ctx, req.GetActor()), repo, tag, d, cond)
	if err != nil {
		return nil, err
	}
	return &metadatav1.RollbackTagResponse{Change: &metadatav1.TagChange{AtUs: ch.At, ActorId: text(ch.Actor), Digest: text(ch.Digest.String())}}, nil
}
