package rest

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// server answers from the ports.
type server struct {
	apiv1.UnimplementedRegistryServiceServer
	blobs   registry.Checker
	catalog registry.Catalog
	mirror  registry.Mirror // nil if there is none
	scans   registry.Scans  // nil if there is none
	policy  registry.Policy
}

// actor returns who asks: nobody in particular, where users don't log in.
func actor(ctx context.Context) registry.Actor {
	a, _ := registry.ActorFrom(ctx)
	return a
}

// checkTime is how long a service may take to say how it feels.
const checkTime = 3 * time.Second

func (s *server) GetHealth(ctx context.Context, _ *apiv1.GetHealthRequest) (*apiv1.GetHealthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	resp := new(apiv1.GetHealthResponse)
	type service struct {
		name    string
		checker registry.Checker
	}
	services := []service{{"blobstore", s.blobs}, {"metadata", s.catalog}}
	if s.scans != nil {
		services = append(services, service{"scanner", s.scans})
	}
	for _, c := range services {
		h, err := c.checker.Check(ctx)
		resp.Services = append(resp.Services, &apiv1.ServiceHealth{Name: c.name, Serving: err == nil, ReadOnly: h.ReadOnly})
	}
	return resp, nil
}

func (s *server) ListRepositories(ctx context.Context, req *apiv1.ListRepositoriesRequest) (*apiv1.ListRepositoriesResponse, error) {
	p, err := page[registry.Name](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Repositories(ctx, actor(ctx), p)
	if err != nil {
		return nil, err
	}
	names, next := entries(list)
	return &apiv1.ListRepositoriesResponse{Repositories: names, Next: next}, nil
}

func (s *server) ListTags(ctx context.Context, req *apiv1.ListTagsRequest) (*apiv1.ListTagsResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p, err := page[registry.Tag](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Tags(ctx, actor(ctx), repo, p)
	if err != nil {
		return nil, err
	}
	tags, next := entries(list)
	return &apiv1.ListTagsResponse{Tags: tags, Next: next}, nil
}

func (s *server) GetTag(ctx context.Context, req *apiv1.GetTagRequest) (*apiv1.GetTagResponse, error) {
	repo, tag, err := repoAndTag(req.GetRepository(), req.GetTag())
	if err != nil {
		return nil, err
	}
	m, err := s.catalog.Manifest(ctx, actor(ctx), repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	if err != nil {
		return nil, err
	}
	return &apiv1.GetTagResponse{Tag: string(tag), Digest: m.Digest.String(), MediaType: m.MediaType, Size: m.Size}, nil
}

func (s *server) GetScrub(ctx context.Context, _ *apiv1.GetScrubRequest) (*apiv1.GetScrubResponse, error) {
	st, err := s.catalog.ScrubStatus(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	resp := &apiv1.GetScrubResponse{
		Requested: moment(st.Requested), Oldest: moment(st.Oldest), Waiting: st.Waiting,
		Blobs: st.Blobs, Bytes: st.Bytes, Manifests: st.Manifests, Damaged: st.Damaged,
	}
	if st.Interval > 0 {
		resp.IntervalSeconds = proto.Int64(st.Interval / time.Second.Microseconds())
	}
	if st.Rate > 0 {
		resp.Rate = &st.Rate
	}
	return resp, nil
}

// moment is a time of a port, nil if it is never.
func moment(at int64) *timestamppb.Timestamp {
	if at == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMicro(at))
}

func (s *server) StartScrub(ctx context.Context, _ *apiv1.StartScrubRequest) (*apiv1.StartScrubResponse, error) {
	if err := s.catalog.StartScrub(ctx, actor(ctx)); err != nil {
		return nil, err
	}
	return &apiv1.StartScrubResponse{}, nil
}

func (s *server) ListDamages(ctx context.Context, req *apiv1.ListDamagesRequest) (*apiv1.ListDamagesResponse, error) {
	limit, err := limitOf(req.Limit)
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Damages(ctx, actor(ctx), nil, limit)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDamagesResponse{Damages: make([]*apiv1.Damage, len(list))}
	for i, d := range list {
		resp.Damages[i] = &apiv1.Damage{
			Repository: string(d.Repo), Digest: d.Digest.String(), Pool: string(d.Pool), Size: d.Size, Found: moment(d.Found), Reason: d.Reason,
		}
	}
	return resp, nil
}

func (s *server) ListTagHistory(ctx context.Context, req *apiv1.ListTagHistoryRequest) (*apiv1.ListTagHistoryResponse, error) {
	repo, tag, err := repoAndTag(req.GetRepository(), req.GetTag())
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(req.Limit)
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.TagHistory(ctx, actor(ctx), repo, tag, limit)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListTagHistoryResponse{Changes: make([]*apiv1.TagChange, len(list))}
	for i, c := range list {
		resp.Changes[i] = &apiv1.TagChange{Time: timestamppb.New(time.UnixMicro(c.At)), Actor: c.Actor, Digest: c.Digest.String()}
	}
	return resp, nil
}

func (s *server) DeleteTag(ctx context.Context, req *apiv1.DeleteTagRequest) (*apiv1.DeleteTagResponse, error) {
	repo, tag, err := repoAndTag(req.GetRepository(), req.GetTag())
	if err != nil {
		return nil, err
	}
	var cond registry.Condition
	if d := req.IfDigest; d != nil {
		if cond.Match, err = registry.ParseDigest(*d); err != nil {
			return nil, err
		}
	}
	if err := s.catalog.DeleteTag(ctx, actor(ctx), repo, tag, cond); err != nil {
		return nil, err
	}
	return &apiv1.DeleteTagResponse{}, nil
}

func (s *server) GetManifest(ctx context.Context, req *apiv1.GetManifestRequest) (*apiv1.GetManifestResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(req.GetReference())
	if err != nil {
		return nil, err
	}
	m, err := s.catalog.Manifest(ctx, actor(ctx), repo, registry.ManifestQuery{Ref: ref})
	if err != nil {
		return nil, err
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return nil, err
	}
	if req.GetContent() { // what a gate withholds is withheld here, too
		v, err := s.policy.Judge(ctx, actor(ctx), actor(ctx), repo, m.Digest)
		if err != nil {
			return nil, err
		}
		if v.Denied != "" {
			return nil, registry.ErrDenied.With("this image can't be pulled: %s", v.Denied)
		}
	}
	resp := &apiv1.GetManifestResponse{
		Digest: m.Digest.String(), MediaType: m.MediaType, Size: m.Size,
		ArtifactType: info.ArtifactType, Annotations: info.Annotations, Subject: info.Subject.String(),
		References: make([]*apiv1.ManifestReference, len(info.References)),
	}
	for i, r := range info.References {
		resp.References[i] = &apiv1.ManifestReference{Digest: r.Digest.String(), Size: r.Size, Manifest: r.Manifest, Optional: r.Optional}
	}
	if req.GetContent() {
		resp.Content = m.Bytes
	}
	return resp, nil
}

func (s *server) DeleteManifest(ctx context.Context, req *apiv1.DeleteManifestRequest) (*apiv1.DeleteManifestResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.DeleteManifest(ctx, actor(ctx), repo, digest); err != nil {
		return nil, err
	}
	return &apiv1.DeleteManifestResponse{}, nil
}

// A page of referrers: each may carry annotations of up to [registry.MaxManifest].
const (
	referrersPage = 100
	maxReferrers  = registry.MaxManifest
)

func (s *server) ListReferrers(ctx context.Context, req *apiv1.ListReferrersRequest) (*apiv1.ListReferrersResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	p, err := page[registry.Digest](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	p.Limit = min(p.Limit, referrersPage)
	list, err := s.catalog.Referrers(ctx, actor(ctx), repo, digest, req.GetArtifactType(), p)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListReferrersResponse)
	size := 0
	for i, d := range list.Items {
		r := &apiv1.Referrer{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, ArtifactType: d.ArtifactType, Annotations: d.Annotations}
		if size += proto.Size(r); size > maxReferrers && i > 0 {
			list.More = true
			break
		}
		resp.Referrers = append(resp.Referrers, r)
	}
	if n := len(resp.Referrers); list.More && n > 0 {
		resp.Next = resp.Referrers[n-1].GetDigest()
	}
	return resp, nil
}

func (s *server) GetBlob(ctx context.Context, req *apiv1.GetBlobRequest) (*apiv1.GetBlobResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	b, err := s.catalog.Blob(ctx, actor(ctx), repo, digest)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetBlobResponse{Digest: b.Digest.String(), Size: b.Size, Manifest: b.Inline != nil}, nil
}

func (s *server) UnlinkBlob(ctx context.Context, req *apiv1.UnlinkBlobRequest) (*apiv1.UnlinkBlobResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.Unlink(ctx, actor(ctx), repo, digest); err != nil {
		return nil, err
	}
	return &apiv1.UnlinkBlobResponse{}, nil
}
