package rpc

import (
	"context"
	"errors"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) ReadOnlys(ctx context.Context, a registry.Actor) ([]registry.ReadOnly, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.bounds.ListReadOnly, &metadatav1.ListReadOnlyRequest{Actor: actor})
	var all []registry.ReadOnly
	for _, r := range resp.GetReadOnly() {
		all = append(all, registry.ReadOnly{Repositories: r.GetRepositories(), Reason: r.GetReason(), Actor: r.GetActorId(), Since: r.GetSinceUs()})
	}
	return all, err
}

func (c *catalog) SetReadOnly(ctx context.Context, a registry.Actor, r registry.ReadOnly) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.bounds.SetReadOnly, &metadatav1.SetReadOnlyRequest{Actor: actor, Repositories: text(r.Repositories), Reason: text(r.Reason)})
	return err
}

func (c *catalog) ClearReadOnly(ctx context.Context, a registry.Actor, repositories string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.bounds.ClearReadOnly, &metadatav1.ClearReadOnlyRequest{Actor: actor, Repositories: text(repositories)})
	return err
}

func (c *catalog) Usage(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Usage, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Usage{}, err
	}
	resp, err := read(ctx, c, c.bounds.GetUsage, &metadatav1.GetUsageRequest{Actor: actor, Repository: text(string(repo))})
	return registry.Usage{Manifests: resp.GetManifests(), Blobs: resp.GetBlobs(), Logical: resp.GetLogical(), Unique: resp.GetUnique()}, err
}

func (c *catalog) NoteUploads(ctx context.Context, notes []registry.UploadNote, owners []string) ([]int64, error) {
	req := &metadatav1.NoteUploadsRequest{Notes: make([]*metadatav1.UploadNote, len(notes)), Owners: make([]string, len(owners))}
	for i, n := range notes {
		req.Notes[i] = &metadatav1.UploadNote{Id: text(string(n.ID)), Owner: text(n.Owner)}
	}
	for i, o := range owners {
		req.Owners[i] = text(o)
	}
	resp, err := repeated(ctx, c, c.bounds.NoteUploads, req)
	if err == nil && len(resp.GetCounts()) != len(owners) {
		return nil, errors.New("uploads of some owners are not counted")
	}
	return resp.GetCounts(), err
}
