package rpc

import (
	"context"

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
	all, more := fitted(list, func(t registry.TakeOver) *metadatav1.TakeOver {
		return &metadatav1.TakeOver{
			Repository: text(string(t.Repo)), Pool: text(string(t.Pool)), State: text(t.State), Problems: toStrings(t.Problems), ProblemCount: t.ProblemCount,
		}
	})
	return &metadatav1.ListTakeOversResponse{Items: all, More: more}, nil
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

func (s *takeOverServer) FinishTakeOvers(ctx context.Context, req *metadatav1.FinishTakeOversRequest) (*metadatav1.FinishTakeOversResponse, error) {
	if err := s.catalog.FinishTakeOvers(ctx, actorOf(ctx, req.GetActor())); err != nil {
		return nil, err
	}
	return &metadatav1.FinishTakeOversResponse{}, nil
}

func (c *catalog) FinishTakeOvers(ctx context.Context, a registry.Actor) error {
	actor, err := actorToWire(a)
	if err == nil {
		_, err = repeated(ctx, c, c.takeOvers.FinishTakeOvers, &metadatav1.FinishTakeOversRequest{Actor: actor})
	}
	return err
}

func (s *takeOverServer) GetTakeOverFinish(ctx context.Context, req *metadatav1.GetTakeOverFinishRequest) (*metadatav1.GetTakeOverFinishResponse, error) {
	f, err := s.catalog.TakeOverFinish(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetTakeOverFinishResponse{
		Requested: f.Requested, Ended: f.Ended, Blobs: f.Blobs, Bytes: f.Bytes, Repositories: f.Repositories, Kept: f.Kept, Removed: f.Removed,
		Problems: toStrings(f.Problems), ProblemCount: f.ProblemCount, Failure: text(f.Failure), ForeignBlobs: f.ForeignBlobs, ForeignBytes: f.ForeignBytes,
	}, nil
}

func (c *catalog) TakeOverFinish(ctx context.Context, a registry.Actor) (registry.TakeOverFinish, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.TakeOverFinish{}, err
	}
	f, err := read(ctx, c, c.takeOvers.GetTakeOverFinish, &metadatav1.GetTakeOverFinishRequest{Actor: actor})
	if err != nil {
		return registry.TakeOverFinish{}, err
	}
	return registry.TakeOverFinish{
		Requested: f.GetRequested(), Ended: f.GetEnded(), Blobs: f.GetBlobs(), Bytes: f.GetBytes(), Repositories: f.GetRepositories(), Kept: f.GetKept(),
		Removed: f.GetRemoved(), Problems: f.GetProblems(), ProblemCount: f.GetProblemCount(), Failure: f.GetFailure(),
		ForeignBlobs: f.GetForeignBlobs(), ForeignBytes: f.GetForeignBytes(),
	}, nil
}
