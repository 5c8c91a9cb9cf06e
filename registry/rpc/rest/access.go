package rest

import (
	"context"
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// reviewPath is the one path that takes a body.
const reviewPath = Base + "/access/review"

func (s *server) GetAccess(ctx context.Context, _ *apiv1.GetAccessRequest) (*apiv1.GetAccessResponse, error) {
	rules, err := s.catalog.AccessRules(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	v := new(structpb.Value)
	if err := v.UnmarshalJSON(b); err != nil {
		return nil, err
	}
	return &apiv1.GetAccessResponse{Rules: v}, nil
}

func (s *server) ExplainAccess(ctx context.Context, req *apiv1.ExplainAccessRequest) (*apiv1.ExplainAccessResponse, error) {
	repo, err := registry.ParseName(req.GetName())
	if err != nil {
		return nil, err
	}
	var ref registry.Reference
	if req.GetReference() != "" {
		if ref, err = registry.ParseReference(req.GetReference()); err != nil {
			return nil, err
		}
	}
	act, err := registry.ParseActions([]string{req.GetAction()})
	if err != nil {
		return nil, err
	}
	whom := registry.Actor{ID: req.GetUser(), Groups: split(req.GetGroups(), ";"), Request: new(registry.ActorRequest)}
	d, err := s.catalog.ExplainAccess(ctx, actor(ctx), whom, repo, ref, act)
	if err != nil {
		return nil, err
	}
	return &apiv1.ExplainAccessResponse{Allowed: d.Allowed, Rule: d.Rule, Because: d.Because}, nil
}

func (s *server) ReviewAccess(ctx context.Context, req *apiv1.ReviewAccessRequest) (*apiv1.ReviewAccessResponse, error) {
	if req.GetRules() == nil {
		return nil, registry.ErrParameterInvalid.With("the body is missing: rules in the form of http.accessControl, or null")
	}
	b, err := req.GetRules().MarshalJSON()
	if err != nil {
		return nil, registry.ErrParameterInvalid.Because(err)
	}
	rules, err := registry.ParseAccessRules(b)
	if err != nil {
		return nil, err
	}
	r, err := s.catalog.ReviewAccess(ctx, actor(ctx), rules)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ReviewAccessResponse{More: r.More, Users: r.Users, Repositories: r.Repositories, Conditional: r.Conditional}
	for _, x := range r.Changes {
		one := &apiv1.AccessChange{Kind: string(x.Kind), Name: x.Name, Gains: x.Gains.Names(), Loses: x.Loses.Names(), Repositories: x.Repositories}
		for _, n := range x.Examples {
			one.Examples = append(one.Examples, string(n))
		}
		resp.Changes = append(resp.Changes, one)
	}
	return resp, nil
}

// split divides a parameter that is a list; nil if it is empty.
func split(s, by string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, by)
}
