package rpc

import (
	"context"
	"encoding/json"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) AccessRules(ctx context.Context, a registry.Actor) (*registry.AccessRules, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.access.GetAccessRules, &metadatav1.GetAccessRulesRequest{Actor: actor})
	if err != nil {
		return nil, err
	}
	rules, err := registry.ParseAccessRules(resp.GetRules())
	if err != nil { // a newer peer's rules can say what we don't know
		return nil, registry.ErrInternal.Because(err)
	}
	return rules, nil
}

func (c *catalog) ExplainAccess(ctx context.Context, a, whom registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) (registry.AccessDecision, error) {
	req := &metadatav1.ExplainAccessRequest{Repository: text(string(repo)), Action: act.String()}
	var err error
	if req.Actor, err = actorToWire(a); err != nil {
		return registry.AccessDecision{}, err
	}
	if req.Whom, err = actorToWire(whom); err != nil {
		return registry.AccessDecision{}, err
	}
	if ref != (registry.Reference{}) {
		req.Reference = referenceToWire(ref)
	}
	resp, err := read(ctx, c, c.access.ExplainAccess, req)
	return registry.AccessDecision{Allowed: resp.GetAllowed(), Rule: resp.GetRule(), Because: resp.GetBecause()}, err
}

func (c *catalog) ReviewAccess(ctx context.Context, a registry.Actor, rules *registry.AccessRules) (registry.AccessReview, error) {
	var r registry.AccessReview
	actor, err := actorToWire(a)
	if err != nil {
		return r, err
	}
	b, err := json.Marshal(rules)
	if err != nil {
		return r, registry.ErrParameterInvalid.Because(err)
	}
	resp, err := read(ctx, c, c.access.CheckAccessRules, &metadatav1.CheckAccessRulesRequest{Actor: actor, Rules: b})
	if err != nil {
		return r, err
	}
	r.More, r.Users, r.Repositories, r.Conditional = resp.GetMore(), resp.GetUsers(), resp.GetRepositories(), resp.GetConditional()
	for _, x := range resp.GetChanges() {
		one := registry.AccessChange{
			Kind: registry.SubjectKind(x.GetKind()), Name: x.GetName(), Gains: actionsFromWire(x.GetGains()), Loses: actionsFromWire(x.GetLoses()), Repositories: x.GetRepositories(),
		}
		for _, n := range x.GetExamples() {
			one.Examples = append(one.Examples, registry.Name(n))
		}
		r.Changes = append(r.Changes, one)
	}
	return r, nil
}

func (s *accessServer) GetAccessRules(ctx context.Context, req *metadatav1.GetAccessRulesRequest) (*metadatav1.GetAccessRulesResponse, error) {
	rules, err := s.catalog.AccessRules(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetAccessRulesResponse{Rules: b}, nil
}

func (s *accessServer) ExplainAccess(ctx context.Context, req *metadatav1.ExplainAccessRequest) (*metadatav1.ExplainAccessResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	var ref registry.Reference
	if req.GetReference() != nil {
		if ref, err = parseReference(req.GetReference()); err != nil {
			return nil, err
		}
	}
	act, err := registry.ParseActions([]string{req.GetAction()})
	if err != nil {
		return nil, err
	}
	// Whose rights are asked for is no claim of who asks.
	d, err := s.catalog.ExplainAccess(ctx, actorOf(ctx, req.GetActor()), actorFromWire(req.GetWhom()), repo, ref, act)
	if err != nil {
		return nil, err
	}
	return &metadatav1.ExplainAccessResponse{Allowed: d.Allowed, Rule: text(d.Rule), Because: text(d.Because)}, nil
}

func (s *accessServer) CheckAccessRules(ctx context.Context, req *metadatav1.CheckAccessRulesRequest) (*metadatav1.CheckAccessRulesResponse, error) {
	rules, err := registry.ParseAccessRules(req.GetRules())
	if err != nil {
		return nil, err
	}
	r, err := s.catalog.ReviewAccess(ctx, actorOf(ctx, req.GetActor()), rules)
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.CheckAccessRulesResponse{More: r.More, Users: r.Users, Repositories: r.Repositories, Conditional: r.Conditional}
	for _, x := range r.Changes {
		one := &metadatav1.AccessChange{
			Kind: text(string(x.Kind)), Name: text(x.Name), Gains: x.Gains.Names(), Loses: x.Loses.Names(), Repositories: x.Repositories,
		}
		for _, n := range x.Examples {
			one.Examples = append(one.Examples, text(string(n)))
		}
		resp.Changes = append(resp.Changes, one)
	}
	return resp, nil
}
