package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) PutCached(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o registry.Origin) (registry.ManifestInfo, error) {
	put, err := putToWire(a, repo, m)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	resp, err := write(ctx, c, c.cache.PutCached, &metadatav1.PutCachedRequest{Put: put, Origin: originToWire(o)})
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	return infoFromWire(resp.GetPut()), nil
}

func (c *catalog) LinkCached(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Stored{}, err
	}
	resp, err := write(ctx, c, c.cache.LinkCached, &metadatav1.LinkCachedRequest{
		Link: &metadatav1.LinkBlobRequest{Actor: actor, Repository: text(string(repo)), Stored: storedToWire(s)},
	})
	return storedFromWire(resp.GetLink().GetStored()), err
}

func (c *catalog) UntagCached(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, d registry.Digest) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.cache.UntagCached, &metadatav1.UntagCachedRequest{
		Actor: actor, Repository: text(string(repo)), Tag: text(string(t)), Digest: text(string(d)),
	})
	return err
}

func (c *catalog) CacheUsage(ctx context.Context, a registry.Actor) ([]registry.CacheUsage, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.cache.GetCacheUsage, &metadatav1.GetCacheUsageRequest{Actor: actor})
	var all []registry.CacheUsage
	for _, u := range resp.GetPools() {
		all = append(all, registry.CacheUsage{
			Pool: registry.Pool(u.GetPool()), Bytes: u.GetBytes(), Manifests: u.GetManifests(), Limit: u.GetLimit(),
			Evicted: u.GetEvicted(), EvictedBytes: u.GetEvictedBytes(),
		})
	}
	return all, err
}

func (c *catalog) CachedManifests(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.CachedManifest]{}, err
	}
	resp, err := read(ctx, c, c.cache.ListCached, &metadatav1.ListCachedRequest{Actor: actor, Repository: text(string(repo)), Page: pageToWire(p)})
	list := registry.List[registry.CachedManifest]{More: resp.GetMore()}
	for _, m := range resp.GetItems() {
		list.Items = append(list.Items, registry.CachedManifest{
			Digest: registry.Digest(m.GetDigest()), Tags: fromStrings[registry.Tag](m.GetTags()), Size: m.GetSize(),
			Origin: originFromWire(m.GetOrigin()), Fetched: m.GetFetchedUs(), Used: m.GetUsedUs(), Pinned: m.GetPinned(),
		})
	}
	return list, err
}

func (c *catalog) PushedTo(ctx context.Context, a registry.Actor, repo registry.Name) (bool, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return false, err
	}
	resp, err := read(ctx, c, c.cache.GetPushedTo, &metadatav1.GetPushedToRequest{Actor: actor, Repository: text(string(repo))})
	return resp.GetPushed(), err
}

func (c *catalog) EvictCached(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) (registry.Eviction, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Eviction{}, err
	}
	req := &metadatav1.EvictCachedRequest{Actor: actor, Repository: text(string(repo))}
	if r != (registry.Reference{}) {
		req.Reference = referenceToWire(r)
	}
	resp, err := write(ctx, c, c.cache.EvictCached, req)
	return registry.Eviction{Manifests: resp.GetManifests(), Blobs: resp.GetBlobs(), Bytes: resp.GetBytes(), More: resp.GetMore()}, err
}

func (c *catalog) Pins(ctx context.Context, a registry.Actor) ([]registry.Pin, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.cache.ListPins, &metadatav1.ListPinsRequest{Actor: actor})
	var all []registry.Pin
	for _, p := range resp.GetPins() {
		all = append(all, registry.Pin{Pattern: p.GetPattern(), Reason: p.GetReason(), Actor: p.GetActorId(), Since: p.GetSinceUs()})
	}
	return all, err
}

func (c *catalog) SetPin(ctx context.Context, a registry.Actor, p registry.Pin) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.cache.SetPin, &metadatav1.SetPinRequest{Actor: actor, Pattern: text(p.Pattern), Reason: text(p.Reason)})
	return err
}

func (c *catalog) ClearPin(ctx context.Context, a registry.Actor, pattern string) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.cache.ClearPin, &metadatav1.ClearPinRequest{Actor: actor, Pattern: text(pattern)})
	return err
}
