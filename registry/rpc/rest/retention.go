package rest

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) RollbackTag(ctx context.Context, req *apiv1.RollbackTagRequest) (*apiv1.RollbackTagResponse, error) {
	repo, tag, err := repoAndTag(req.GetRepository(), req.GetTag())
	if err != nil {
		return nil, err
	}
	to, err := registry.ParseDigest(req.GetDigest())
	if err != nil {
		return nil, err
	}
	var cond registry.Condition
	if d := req.IfDigest; d != nil {
		if cond.Match, err = registry.ParseDigest(*d); err != nil {
			return nil, err
		}
	}
	ch, err := s.catalog.RollbackTag(ctx, actor(ctx), repo, tag, to, cond)
	if err != nil {
		return nil, err
	}
	return &apiv1.RollbackTagResponse{Change: &apiv1.TagChange{Time: timestamp(ch.At), Actor: ch.Actor, Digest: ch.Digest.String()}}, nil
}

func (s *server) ExplainRetention(ctx context.Context, req *apiv1.ExplainRetentionRequest) (*apiv1.ExplainRetentionResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	var only registry.Reference
	if req.GetReference() != "" {
		if only, err = registry.ParseReference(req.GetReference()); err != nil {
			return nil, err
		}
	}
	p, err := page[string](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.ExplainRetention(ctx, actor(ctx), repo, only, p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ExplainRetentionResponse{Decisions: make([]*apiv1.RetentionDecision, len(list.Items))}
	for i, d := range list.Items {
		resp.Decisions[i] = &apiv1.RetentionDecision{
			Tag: string(d.Tag), Digest: d.Digest.String(), Keep: d.Keep, Policy: int32(d.Policy), Entry: int32(d.Entry),
			Rule: d.Rule, Reason: d.Reason, Pushed: timestamp(d.Pushed), Pulled: timestamp(d.Pulled),
		}
		if list.More && i == len(list.Items)-1 {
			resp.Next = d.Key()
		}
	}
	return resp, nil
}

func (s *server) ApplyRetention(ctx context.Context, req *apiv1.ApplyRetentionRequest) (*apiv1.ApplyRetentionResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	r, err := s.catalog.ApplyRetention(ctx, actor(ctx), repo)
	if err != nil {
		return nil, err
	}
	return &apiv1.ApplyRetentionResponse{DryRun: r.DryRun, Kept: r.Kept, Deleted: r.Deleted}, nil
}

func (s *server) ListPulls(ctx context.Context, req *apiv1.ListPullsRequest) (*apiv1.ListPullsResponse, error) {
	repo, d, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	p, err := page[registry.Tag](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.PullsOf(ctx, actor(ctx), repo, d, p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListPullsResponse{Pulls: make([]*apiv1.Pull, len(list.Items))}
	for i, p := range list.Items {
		resp.Pulls[i] = &apiv1.Pull{Tag: string(p.Tag), Count: p.Count, Time: timestamp(p.At), Actor: p.Actor}
		if list.More && i == len(list.Items)-1 {
			resp.Next = string(p.Key())
		}
	}
	return resp, nil
}

// timestamp returns a moment, absent if it is 0.
func timestamp(micros int64) *timestamppb.Timestamp {
	if micros == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMicro(micros))
}
