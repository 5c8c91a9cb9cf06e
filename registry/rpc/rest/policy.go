package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// unguarded is the policy where there is none.
type unguarded struct{}

func (unguarded) Judge(context.Context, registry.Actor, registry.Actor, registry.Name, registry.Digest) (registry.PullVerdict, error) {
	return registry.PullVerdict{Steps: []string{"no gate is about this repository"}}, nil
}

func (unguarded) Signatures(context.Context, registry.Actor, registry.Name, registry.Digest) ([]registry.Signature, error) {
	return nil, nil
}

func (s *server) ListSignatures(ctx context.Context, req *apiv1.ListSignaturesRequest) (*apiv1.ListSignaturesResponse, error) {
	repo, d, err := s.image(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	all, err := s.policy.Signatures(ctx, actor(ctx), repo, d)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListSignaturesResponse{Digest: string(d)}
	for _, x := range all {
		resp.Signatures = append(resp.Signatures, &apiv1.ImageSignature{
			Tool: x.Tool, Manifest: string(x.Manifest), Trusted: x.Trusted, Author: x.Author, Problem: x.Problem,
		})
	}
	return resp, nil
}

func (s *server) ExplainPull(ctx context.Context, req *apiv1.ExplainPullRequest) (*apiv1.ExplainPullResponse, error) {
	repo, d, err := s.image(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	whom := actor(ctx)
	if req.GetUser() != "" || req.GetGroups() != "" {
		if err := s.administer(ctx, "what gates say to others"); err != nil {
			return nil, err
		}
		whom = registry.Actor{ID: req.GetUser(), Groups: split(req.GetGroups(), ";")}
	}
	v, err := s.policy.Judge(ctx, actor(ctx), whom, repo, d)
	if err != nil {
		return nil, err
	}
	return &apiv1.ExplainPullResponse{Digest: string(d), Allowed: v.Denied == "", Denied: v.Denied, Warnings: v.Warnings, Steps: v.Steps}, nil
}

func (s *server) ListTrusted(ctx context.Context, _ *apiv1.ListTrustedRequest) (*apiv1.ListTrustedResponse, error) {
	if err := s.administer(ctx, "trusted keys"); err != nil {
		return nil, err
	}
	all, err := s.catalog.Trusted(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListTrustedResponse)
	for _, k := range all {
		resp.Keys = append(resp.Keys, &apiv1.TrustedKey{Id: k.ID, Tool: k.Tool, Store: k.Store, Pem: k.PEM, User: k.Actor, Since: moment(k.Since)})
	}
	return resp, nil
}

func (s *server) RemoveTrusted(ctx context.Context, req *apiv1.RemoveTrustedRequest) (*apiv1.RemoveTrustedResponse, error) {
	if err := s.catalog.RemoveTrusted(ctx, actor(ctx), req.GetId()); err != nil {
		return nil, err
	}
	return new(apiv1.RemoveTrustedResponse), nil
}
