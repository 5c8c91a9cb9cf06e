package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) DeleteRepository(ctx context.Context, a registry.Actor, repo registry.Name) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.collector.DeleteRepository, &metadatav1.DeleteRepositoryRequest{Actor: actor, Repository: text(string(repo))})
	return err
}

func (c *catalog) Deleted(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Cursor]) (registry.List[registry.Deleted], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Deleted]{}, err
	}
	resp, err := read(ctx, c, c.collector.ListDeleted, &metadatav1.ListDeletedRequest{Actor: actor, Repository: text(string(repo)), Page: pageToWire(p)})
	list := registry.List[registry.Deleted]{More: resp.GetMore()}
	for _, d := range resp.GetItems() {
		list.Items = append(list.Items, registry.Deleted{
			Cursor: registry.Cursor(d.GetCursor()), Repo: registry.Name(d.GetRepository()), Digest: registry.Digest(d.GetDigest()),
			Tag: registry.Tag(d.GetTag()), Tags: fromStrings[registry.Tag](d.GetTags()), Size: d.GetSize(), Actor: d.GetActorId(), At: d.GetAtUs(), Until: d.GetUntilUs(),
		})
	}
	return list, err
}

func (c *catalog) Undelete(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	req := &metadatav1.UndeleteRequest{Actor: actor, Repository: text(string(repo))}
	if r != (registry.Reference{}) {
		req.Reference = referenceToWire(r)
	}
	_, err = write(ctx, c, c.collector.Undelete, req)
	return err
}

func (c *catalog) Purge(ctx context.Context, a registry.Actor, repo registry.Name) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.collector.Purge, &metadatav1.PurgeRequest{Actor: actor, Repository: text(string(repo))})
	return err
}

func (c *catalog) Collect(ctx context.Context, a registry.Actor) (registry.Collection, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Collection{}, err
	}
	resp, err := write(ctx, c, c.collector.Collect, &metadatav1.CollectRequest{Actor: actor})
	return registry.Collection{
		Reviews: resp.GetReviews(), Manifests: resp.GetManifests(), Links: resp.GetLinks(), Blobs: resp.GetBlobs(),
		Repositories: resp.GetRepositories(), Bytes: resp.GetBytes(), More: resp.GetMore(), Next: resp.GetNextUs(),
	}, err
}

func (c *catalog) Plan(ctx context.Context, a registry.Actor, p registry.Page[registry.Cursor]) (registry.List[registry.Doomed], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Doomed]{}, err
	}
	resp, err := read(ctx, c, c.collector.ListDoomed, &metadatav1.ListDoomedRequest{Actor: actor, Page: pageToWire(p)})
	list := registry.List[registry.Doomed]{More: resp.GetMore()}
	for _, d := range resp.GetItems() {
		list.Items = append(list.Items, registry.Doomed{
			Cursor: registry.Cursor(d.GetCursor()), Kind: d.GetKind(), Repo: registry.Name(d.GetRepository()), Pool: registry.Pool(d.GetPool()),
			Digest: registry.Digest(d.GetDigest()), Size: d.GetSize(), At: d.GetAtUs(), Reason: d.GetReason(),
		})
	}
	return list, err
}
