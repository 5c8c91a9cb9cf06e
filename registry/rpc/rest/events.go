package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) ListEvents(ctx context.Context, req *apiv1.ListEventsRequest) (*apiv1.ListEventsResponse, error) {
	q := registry.AnnouncementQuery{Before: req.GetAfter()}
	var err error
	if q.Limit, err = limitOf(req.Limit); err != nil {
		return nil, err
	}
	if req.GetRepository() != "" {
		if q.Repo, err = registry.ParseName(req.GetRepository()); err != nil {
			return nil, err
		}
	}
	list, err := s.catalog.Announced(ctx, actor(ctx), q)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListEventsResponse)
	for _, e := range list.Items {
		resp.Events = append(resp.Events, &apiv1.Event{
			Id: e.ID, Time: moment(e.At), Type: e.Type, Repository: string(e.Repo), Reference: e.Reference, Digest: string(e.Digest), MediaType: e.MediaType,
			Actor: e.Actor, Address: e.Address, Method: e.Method, UserAgent: e.Agent,
		})
		if list.More {
			resp.Next = e.ID
		}
	}
	return resp, nil
}

func (s *server) ListSinks(ctx context.Context, _ *apiv1.ListSinksRequest) (*apiv1.ListSinksResponse, error) {
	all, err := s.catalog.Sinks(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListSinksResponse)
	for _, k := range all {
		resp.Sinks = append(resp.Sinks, &apiv1.Sink{
			Name: k.Name, Waiting: k.Waiting, Delivered: k.Delivered, Dropped: k.Dropped, Failures: k.Failures, Error: k.Error, Last: moment(k.At),
		})
	}
	return resp, nil
}
