package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) CountPulls(ctx context.Context, pulls []registry.Pull) error {
	req := &metadatav1.CountPullsRequest{Pulls: make([]*metadatav1.Pull, len(pulls))}
	for i, p := range pulls {
		req.Pulls[i] = pullToWire(p)
	}
	_, err := write(ctx, c, c.retention.CountPulls, req)
	return err
}

func (c *catalog) PullsOf(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, p registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Pull]{}, err
	}
	resp, err := read(ctx, c, c.retention.ListPulls, &metadatav1.ListPullsRequest{
		Actor: actor, Repository: text(string(repo)), Digest: text(d.String()), Page: pageToWire(p),
	})
	list := registry.List[registry.Pull]{More: resp.GetMore()}
	for _, w := range resp.GetPulls() {
		list.Items = append(list.Items, pullFromWire(w))
	}
	return list, err
}

func (c *catalog) ExplainRetention(ctx context.Context, a registry.Actor, repo registry.Name, only registry.Reference, p registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.RetentionDecision]{}, err
	}
	resp, err := read(ctx, c, c.retention.ExplainRetention, &metadatav1.ExplainRetentionRequest{
		Actor: actor, Repository: text(string(repo)), Only: text(only.String()), Page: pageToWire(p),
	})
	list := registry.List[registry.RetentionDecision]{More: resp.GetMore()}
	for _, d := range resp.GetDecisions() {
		list.Items = append(list.Items, registry.RetentionDecision{
			Tag: registry.Tag(d.GetTag()), Digest: registry.Digest(d.GetDigest()), Keep: d.GetKeep(), Policy: int(d.GetPolicy()),
			Entry: int(d.GetEntry()), Rule: d.GetRule(), Reason: d.GetReason(), Pushed: d.GetPushedUs(), Pulled: d.GetPulledUs(),
		})
	}
	return list, err
}

func (c *catalog) ApplyRetention(ctx context.Context, a registry.Actor, repo registry.Name) (registry.RetentionReport, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.RetentionReport{}, err
	}
	resp, err := write(ctx, c, c.retention.ApplyRetention, &metadatav1.ApplyRetentionRequest{Actor: actor, Repository: text(string(repo))})
	return registry.RetentionReport{DryRun: resp.GetDryRun(), Kept: resp.GetKept(), Deleted: resp.GetDeleted()}, err
}

func (c *catalog) RollbackTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, to registry.Digest, cond registry.Condition) (registry.TagChange, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.TagChange{}, err
	}
	resp, err := write(ctx, c, c.retention.RollbackTag, &metadatav1.RollbackTagRequest{
		Actor: actor, Repository: text(string(repo)), Tag: text(string(t)), Digest: text(to.String()), Condition: conditionToWire(cond),
	})
	ch := resp.GetChange()
	return registry.TagChange{At: ch.GetAtUs(), Actor: ch.GetActorId(), Digest: registry.Digest(ch.GetDigest())}, err
}

func pullToWire(p registry.Pull) *metadatav1.Pull {
	return &metadatav1.Pull{
		Repository: text(string(p.Repository)), Digest: text(p.Digest.String()), Tag: text(string(p.Tag)),
		ActorId: text(p.Actor), AtUs: p.At, Count: p.Count,
	}
}

func pullFromWire(w *metadatav1.Pull) registry.Pull {
	return registry.Pull{
		Repository: registry.Name(w.GetRepository()), Digest: registry.Digest(w.GetDigest()), Tag: registry.Tag(w.GetTag()),
		Actor: w.GetActorId(), At: w.GetAtUs(), Count: w.GetCount(),
	}
}
