package rpc

import (
	"context"

	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// Announce is repeated after a failure: a push that is noted twice is looked for once
// more than need be, and one that is not noted is lost.
func (m *mirror) Announce(ctx context.Context, a registry.Actor, repo registry.Name, p registry.AnnouncedPush) (string, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return "", err
	}
	tags := make([]string, len(p.Tags))
	for i, t := range p.Tags {
		tags[i] = text(string(t))
	}
	resp, err := unary(ctx, m.limits, m.limits.write, true, m.client.Announce,
		&syncerv1.AnnounceRequest{Actor: actor, Repository: text(string(repo)), Tags: tags, Digest: text(string(p.Digest)), Via: text(p.Via), Deletion: p.Deletion})
	return resp.GetReceipt(), err
}

func (m *mirror) Settle(ctx context.Context, receipt string, stored bool) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.Settle, &syncerv1.SettleRequest{Receipt: text(receipt), Stored: stored})
	return err
}

func (m *mirror) Forwards(ctx context.Context, q registry.ForwardQuery) ([]registry.Forward, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.ListForwards,
		&syncerv1.ListForwardsRequest{Rule: text(q.Rule), Repository: text(string(q.Repository)), Open: q.Open, After: q.After, Limit: int32(min(q.Limit, 1<<20))}) //nolint:gosec // it is small
	all := make([]registry.Forward, len(resp.GetForwards()))
	for i, f := range resp.GetForwards() {
		all[i] = registry.Forward{
			Number: f.GetNumber(), Rule: f.GetRule(), Repository: registry.Name(f.GetRepository()), Tag: registry.Tag(f.GetTag()),
			Digest: registry.Digest(f.GetDigest()), Actor: f.GetActor(), Upstream: f.GetUpstream(), State: registry.ForwardState(f.GetState()),
			Attempts: f.GetAttempts(), Error: f.GetError(), Since: f.GetSinceUs(), Changed: f.GetChangedUs(), Deletion: f.GetDeletion(),
		}
	}
	return all, err
}

func (m *mirror) Reforward(ctx context.Context, rule string) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.Reforward, &syncerv1.ReforwardRequest{Rule: text(rule)})
	return err
}

func (m *mirror) DropForward(ctx context.Context, number int64) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.DropForward, &syncerv1.DropForwardRequest{Number: number})
	return err
}

func (s *mirrorServer) Announce(ctx context.Context, req *syncerv1.AnnounceRequest) (*syncerv1.AnnounceResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p := registry.AnnouncedPush{Via: req.GetVia(), Deletion: req.GetDeletion()}
	if !p.Deletion || len(req.GetTags()) == 0 || req.GetDigest() != "" {
		if p.Digest, err = registry.ParseDigest(req.GetDigest()); err != nil {
			return nil, err
		}
	}
	if len(req.GetTags()) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags.With("at most %d tags at once", registry.MaxTagsPerPut)
	}
	for _, text := range req.GetTags() {
		t, err := registry.ParseTag(text)
		if err != nil {
			return nil, err
		}
		p.Tags = append(p.Tags, t)
	}
	receipt, err := s.mirror.Announce(ctx, actorOf(ctx, req.GetActor()), repo, p)
	if err != nil {
		return nil, err
	}
	return &syncerv1.AnnounceResponse{Receipt: text(receipt)}, nil
}

func (s *mirrorServer) Settle(ctx context.Context, req *syncerv1.SettleRequest) (*syncerv1.SettleResponse, error) {
	if err := s.mirror.Settle(ctx, req.GetReceipt(), req.GetStored()); err != nil {
		return nil, err
	}
	return &syncerv1.SettleResponse{}, nil
}

func (s *mirrorServer) ListForwards(ctx context.Context, req *syncerv1.ListForwardsRequest) (*syncerv1.ListForwardsResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	q := registry.ForwardQuery{Rule: req.GetRule(), Repository: registry.Name(req.GetRepository()), Open: req.GetOpen(), After: req.GetAfter(), Limit: int(req.GetLimit())}
	if q.Limit == 0 {
		q.Limit = 100
	}
	all, err := s.mirror.Forwards(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := &syncerv1.ListForwardsResponse{Forwards: make([]*syncerv1.Forward, len(all))}
	for i, f := range all {
		resp.Forwards[i] = &syncerv1.Forward{
			Number: f.Number, Rule: text(f.Rule), Repository: text(string(f.Repository)), Tag: text(string(f.Tag)), Digest: text(string(f.Digest)),
			Actor: text(f.Actor), Upstream: text(f.Upstream), State: text(string(f.State)), Attempts: f.Attempts, Error: text(f.Error),
			SinceUs: f.Since, ChangedUs: f.Changed, Deletion: f.Deletion,
		}
	}
	return resp, nil
}

func (s *mirrorServer) Reforward(ctx context.Context, req *syncerv1.ReforwardRequest) (*syncerv1.ReforwardResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if err := s.mirror.Reforward(ctx, req.GetRule()); err != nil {
		return nil, err
	}
	return &syncerv1.ReforwardResponse{}, nil
}

func (s *mirrorServer) DropForward(ctx context.Context, req *syncerv1.DropForwardRequest) (*syncerv1.DropForwardResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if err := s.mirror.DropForward(ctx, req.GetNumber()); err != nil {
		return nil, err
	}
	return &syncerv1.DropForwardResponse{}, nil
}
