package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// scrubServer serves registry.Scrubbing.
type scrubServer struct {
	metadatav1.UnimplementedScrubServiceServer
	catalog registry.Scrubbing
}

func (s *scrubServer) ReportReads(ctx context.Context, req *metadatav1.ReportReadsRequest) (*metadatav1.ReportReadsResponse, error) {
	reads := make([]registry.ReadReport, len(req.GetReads()))
	for i, r := range req.GetReads() {
		stored, err := parseStored(r.GetStored())
		if err != nil {
			return nil, err
		}
		reads[i] = registry.ReadReport{Stored: stored, Damaged: r.GetDamaged()}
	}
	if err := s.catalog.ReportReads(ctx, reads); err != nil {
		return nil, err
	}
	return &metadatav1.ReportReadsResponse{}, nil
}

func (s *scrubServer) GetScrub(ctx context.Context, req *metadatav1.GetScrubRequest) (*metadatav1.GetScrubResponse, error) {
	st, err := s.catalog.ScrubStatus(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetScrubResponse{
		Interval: st.Interval, Rate: st.Rate, Requested: st.Requested, Oldest: st.Oldest, Waiting: st.Waiting,
		Blobs: st.Blobs, Bytes: st.Bytes, Manifests: st.Manifests, Damaged: st.Damaged,
	}, nil
}

func (s *scrubServer) StartScrub(ctx context.Context, req *metadatav1.StartScrubRequest) (*metadatav1.StartScrubResponse, error) {
	if err := s.catalog.StartScrub(ctx, actorOf(ctx, req.GetActor())); err != nil {
		return nil, err
	}
	return &metadatav1.StartScrubResponse{}, nil
}

func (s *scrubServer) ListDamages(ctx context.Context, req *metadatav1.ListDamagesRequest) (*metadatav1.ListDamagesResponse, error) {
	var after *registry.Damage
	if a := req.GetAfter(); a != nil {
		if _, err := registry.ParseDigest(a.GetDigest()); err != nil {
			return nil, err
		}
		d := damageFromWire(a)
		after = &d
	}
	list, err := s.catalog.Damages(ctx, actorOf(ctx, req.GetActor()), after, int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListDamagesResponse{Damages: make([]*metadatav1.Damage, len(list))}
	for i, d := range list {
		resp.Damages[i] = damageToWire(d)
	}
	return resp, nil
}

func damageToWire(d registry.Damage) *metadatav1.Damage {
	return &metadatav1.Damage{
		Repository: text(string(d.Repo)), Digest: text(d.Digest.String()), Pool: text(string(d.Pool)),
		Size: d.Size, Found: d.Found, Reason: text(d.Reason), Repositories: toStrings(d.Repos),
	}
}

func damageFromWire(d *metadatav1.Damage) registry.Damage {
	return registry.Damage{
		Repo: registry.Name(d.GetRepository()), Digest: registry.Digest(d.GetDigest()), Pool: registry.Pool(d.GetPool()),
		Size: d.GetSize(), Found: d.GetFound(), Reason: d.GetReason(), Repos: fromStrings[registry.Name](d.GetRepositories()),
	}
}

// ReportReads may be repeated.
func (c *catalog) ReportReads(ctx context.Context, reads []registry.ReadReport) error {
	req := &metadatav1.ReportReadsRequest{Reads: make([]*metadatav1.ReadReport, len(reads))}
	for i, r := range reads {
		req.Reads[i] = &metadatav1.ReadReport{Stored: storedToWire(r.Stored), Damaged: r.Damaged}
	}
	_, err := unary(ctx, c.limits, c.limits.write, true, c.scrub.ReportReads, req)
	return err
}

func (c *catalog) ScrubStatus(ctx context.Context, a registry.Actor) (registry.ScrubStatus, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.ScrubStatus{}, err
	}
	resp, err := read(ctx, c, c.scrub.GetScrub, &metadatav1.GetScrubRequest{Actor: actor})
	return registry.ScrubStatus{
		Interval: resp.GetInterval(), Rate: resp.GetRate(), Requested: resp.GetRequested(), Oldest: resp.GetOldest(), Waiting: resp.GetWaiting(),
		Blobs: resp.GetBlobs(), Bytes: resp.GetBytes(), Manifests: resp.GetManifests(), Damaged: resp.GetDamaged(),
	}, err
}

func (c *catalog) StartScrub(ctx context.Context, a registry.Actor) error {
	actor, err := actorToWire(a)
	if err == nil {
		_, err = write(ctx, c, c.scrub.StartScrub, &metadatav1.StartScrubRequest{Actor: actor})
	}
	return err
}

func (c *catalog) Damages(ctx context.Context, a registry.Actor, after *registry.Damage, limit int) ([]registry.Damage, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	req := &metadatav1.ListDamagesRequest{Actor: actor, Limit: size32(limit)}
	if after != nil {
		req.After = damageToWire(*after)
	}
	resp, err := read(ctx, c, c.scrub.ListDamages, req)
	if err != nil {
		return nil, err
	}
	list := make([]registry.Damage, len(resp.GetDamages()))
	for i, d := range resp.GetDamages() {
		list[i] = damageFromWire(d)
	}
	return list, nil
}
