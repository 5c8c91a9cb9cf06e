package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// maxCursor is how many bytes a cursor may have.
const maxCursor = 1024

// cursorPage is page for a list whose entries have no name.
func cursorPage(limit *int32, after string) (registry.Page[registry.Cursor], error) {
	n, err := limitOf(limit)
	if err == nil && len(after) > maxCursor {
		err = registry.ErrPageInvalid.With("after is longer than %d bytes", maxCursor)
	}
	return registry.Page[registry.Cursor]{After: registry.Cursor(after), Limit: n}, err
}

func optionalName(name string) (registry.Name, error) {
	if name == "" {
		return "", nil
	}
	return registry.ParseName(name)
}

// repoAndReference is for what names a tag, a digest, or a whole repository.
func repoAndReference(name, reference string) (registry.Name, registry.Reference, error) {
	repo, err := registry.ParseName(name)
	if err != nil || reference == "" {
		return repo, registry.Reference{}, err
	}
	ref, err := registry.ParseReference(reference)
	return repo, ref, err
}

func (s *server) CollectGarbage(ctx context.Context, _ *apiv1.CollectGarbageRequest) (*apiv1.CollectGarbageResponse, error) {
	done, err := s.catalog.Collect(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &apiv1.CollectGarbageResponse{
		Reviews: done.Reviews, Manifests: done.Manifests, Links: done.Links, Blobs: done.Blobs, Repositories: done.Repositories,
		Bytes: done.Bytes, More: done.More, Next: timestamp(done.Next),
	}, nil
}

func (s *server) ListDoomed(ctx context.Context, req *apiv1.ListDoomedRequest) (*apiv1.ListDoomedResponse, error) {
	p, err := cursorPage(req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Plan(ctx, actor(ctx), p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDoomedResponse{Items: make([]*apiv1.Doomed, len(list.Items))}
	for i, d := range list.Items {
		resp.Items[i] = &apiv1.Doomed{
			Kind: d.Kind, Repository: string(d.Repo), Pool: string(d.Pool), Digest: d.Digest.String(), Size: d.Size, Time: timestamp(d.At), Reason: d.Reason,
		}
		if list.More {
			resp.Next = string(d.Cursor)
		}
	}
	return resp, nil
}

func (s *server) ListDeleted(ctx context.Context, req *apiv1.ListDeletedRequest) (*apiv1.ListDeletedResponse, error) {
	repo, err := optionalName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p, err := cursorPage(req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Deleted(ctx, actor(ctx), repo, p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDeletedResponse{Items: make([]*apiv1.Deleted, len(list.Items))}
	for i, d := range list.Items {
		resp.Items[i] = &apiv1.Deleted{
			Repository: string(d.Repo), Digest: d.Digest.String(), Tag: string(d.Tag), Size: d.Size, Actor: d.Actor, Time: timestamp(d.At), Until: timestamp(d.Until),
		}
		for _, t := range d.Tags {
			resp.Items[i].Tags = append(resp.Items[i].Tags, string(t))
		}
		if list.More {
			resp.Next = string(d.Cursor)
		}
	}
	return resp, nil
}

func (s *server) Purge(ctx context.Context, req *apiv1.PurgeRequest) (*apiv1.PurgeResponse, error) {
	repo, err := optionalName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.Purge(ctx, actor(ctx), repo); err != nil {
		return nil, err
	}
	return &apiv1.PurgeResponse{}, nil
}

func (s *server) DeleteRepository(ctx context.Context, req *apiv1.DeleteRepositoryRequest) (*apiv1.DeleteRepositoryResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.DeleteRepository(ctx, actor(ctx), repo); err != nil {
		return nil, err
	}
	return &apiv1.DeleteRepositoryResponse{}, nil
}

func (s *server) Undelete(ctx context.Context, req *apiv1.UndeleteRequest) (*apiv1.UndeleteResponse, error) {
	repo, ref, err := repoAndReference(req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.Undelete(ctx, actor(ctx), repo, ref); err != nil {
		return nil, err
	}
	return &apiv1.UndeleteResponse{}, nil
}

func (s *server) ListTakeOvers(ctx context.Context, req *apiv1.ListTakeOversRequest) (*apiv1.ListTakeOversResponse, error) {
	p, err := page[registry.Name](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.TakeOvers(ctx, actor(ctx), p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListTakeOversResponse{Items: make([]*apiv1.TakeOver, len(list.Items))}
	for i, t := range list.Items {
		resp.Items[i] = &apiv1.TakeOver{Repository: string(t.Repo), Pool: string(t.Pool), State: t.State, Problems: t.Problems, ProblemCount: t.ProblemCount}
		if list.More {
			resp.Next = string(t.Repo)
		}
	}
	return resp, nil
}

func (s *server) FinishTakeOvers(ctx context.Context, _ *apiv1.FinishTakeOversRequest) (*apiv1.FinishTakeOversResponse, error) {
	if err := s.catalog.FinishTakeOvers(ctx, actor(ctx)); err != nil {
		return nil, err
	}
	return &apiv1.FinishTakeOversResponse{}, nil
}

func (s *server) GetTakeOverFinish(ctx context.Context, _ *apiv1.GetTakeOverFinishRequest) (*apiv1.GetTakeOverFinishResponse, error) {
	f, err := s.catalog.TakeOverFinish(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &apiv1.GetTakeOverFinishResponse{
		Requested: timestamp(f.Requested), Ended: timestamp(f.Ended), Blobs: f.Blobs, Bytes: f.Bytes, Repositories: f.Repositories, Kept: f.Kept,
		Removed: f.Removed, Problems: f.Problems, ProblemCount: f.ProblemCount, Failure: f.Failure, ForeignBlobs: f.ForeignBlobs, ForeignBytes: f.ForeignBytes,
	}, nil
}
