package rpc

import (
	"context"

	"google.golang.org/protobuf/proto"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// takeOverServer serves registry.TakeOvers.
type takeOverServer struct {
	metadatav1.UnimplementedTakeOverServiceServer
	catalog registry.TakeOvers
}

func (s *takeOverServer) ListTakeOvers(ctx context.Context, req *metadatav1.ListTakeOversRequest) (*metadatav1.ListTakeOversResponse, error) {
	list, err := s.catalog.TakeOvers(ctx, actorOf(ctx, req.GetActor()), pageFromWire[registry.Name](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all := make([]*metadatav1.TakeOver, len(list.Items))
	for i, t := range list.Items {
		all[i] = &metadatav1.TakeOver{
			Repository: text(string(t.Repo)), Pool: text(string(t.Pool)), State: text(t.State), Problems: toStrings(t.Problems), ProblemCount: t.ProblemCount,
		}
	}
	n := fit(len(all), func(i int) int { return proto.Size(all[i]) })
	return &metadatav1.ListTakeOversResponse{Items: all[:n], More: list.More || n < len(all)}, nil
}

func (c *catalog) TakeOvers(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.TakeOver], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.TakeOver]{}, err
	}
	resp, err := read(ctx, c, c.takeOvers.ListTakeOvers, &metadatav1.ListTakeOversRequest{Actor: actor, Page: pageToWire(p)})
	list := registry.List[registry.TakeOver]{More: resp.GetMore()}
	for _, t := range resp.GetItems() {
		list.Items = append(list.Items, registry.TakeOver{
			Repo: registry.Name(t.GetRepository()), Pool: registry.Pool(t.GetPool()), State: t.GetState(), Problems: t.GetProblems(), ProblemCount: t.GetProblemCount(),
		})
	}
	return list, err
}
