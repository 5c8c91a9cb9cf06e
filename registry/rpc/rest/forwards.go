package rest

import (
	"context"
	"strconv"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) ListForwards(ctx context.Context, req *apiv1.ListForwardsRequest) (*apiv1.ListForwardsResponse, error) {
	p, err := page[string](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	q := registry.ForwardQuery{Rule: req.GetRule(), Open: req.GetOpen(), Limit: p.Limit}
	if req.GetRepository() != "" {
		if q.Repository, err = registry.ParseName(req.GetRepository()); err != nil {
			return nil, err
		}
	}
	if p.After != "" {
		if q.After, err = strconv.ParseInt(p.After, 10, 64); err != nil || q.After < 0 {
			return nil, registry.ErrPageInvalid.With("after must be the next of another page")
		}
	}
	m, err := s.steer(ctx)
	if err != nil {
		return nil, err
	}
	all, err := m.Forwards(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListForwardsResponse)
	for _, f := range all {
		resp.Items = append(resp.Items, &apiv1.Forward{
			Number: f.Number, Rule: f.Rule, Repository: string(f.Repository), Tag: string(f.Tag), Digest: f.Digest.String(), Actor: f.Actor,
			Upstream: f.Upstream, State: string(f.State), Attempts: f.Attempts, Error: f.Error, Since: timestamp(f.Since), Changed: timestamp(f.Changed),
			Deletion: f.Deletion,
		})
	}
	if len(all) == q.Limit {
		resp.Next = strconv.FormatInt(all[len(all)-1].Number, 10)
	}
	return resp, nil
}

func (s *server) RetryForwards(ctx context.Context, req *apiv1.RetryForwardsRequest) (*apiv1.RetryForwardsResponse, error) {
	m, err := s.steer(ctx)
	if err == nil {
		err = m.Reforward(ctx, req.GetRule())
	}
	if err != nil {
		return nil, err
	}
	return new(apiv1.RetryForwardsResponse), nil
}

func (s *server) DropForward(ctx context.Context, req *apiv1.DropForwardRequest) (*apiv1.DropForwardResponse, error) {
	m, err := s.steer(ctx)
	if err == nil {
		err = m.DropForward(ctx, req.GetNumber())
	}
	if err != nil {
		return nil, err
	}
	return new(apiv1.DropForwardResponse), nil
}
