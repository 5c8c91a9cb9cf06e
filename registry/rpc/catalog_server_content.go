package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *catalogServer) GetManifest(ctx context.Context, req *metadatav1.GetManifestRequest) (*metadatav1.GetManifestResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	ref, err := parseReference(req.GetReference())
	if err != nil {
		return nil, err
	}
	have, err := parseOptionalDigest(req.GetHave())
	if err != nil {
		return nil, err
	}
	m, err := s.catalog.Manifest(ctx, actorOf(ctx, req.GetActor()), repo, registry.ManifestQuery{Ref: ref, Have: have, NoBytes: req.GetNoContent()})
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetManifestResponse{
		Digest:    text(m.Digest.String()),
		MediaType: text(m.MediaType),
		Size:      m.Size,
		Content:   m.Bytes,
	}, nil
}

func (s *catalogServer) PutManifest(ctx context.Context, req *metadatav1.PutManifestRequest) (*metadatav1.PutManifestResponse, error) {
	repo, m, err := putFromWire(req)
	if err != nil {
		return nil, err
	}
	info, err := s.catalog.PutManifest(ctx, actorOf(ctx, req.GetActor()), repo, m)
	if err != nil {
		return nil, err
	}
	return infoToWire(info), nil
}

func putFromWire(req *metadatav1.PutManifestRequest) (registry.Name, registry.ManifestPut, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return "", registry.ManifestPut{}, err
	}
	for _, t := range req.GetTags() {
		if _, err := registry.ParseTag(t); err != nil {
			return "", registry.ManifestPut{}, err
		}
	}
	cond, err := parseCondition(req.GetCondition())
	return repo, registry.ManifestPut{
		Digest:    digest,
		MediaType: req.GetMediaType(),
		Bytes:     req.GetContent(),
		Tags:      fromStrings[registry.Tag](req.GetTags()),
		If:        cond,
		ByDigest:  req.GetByDigest(),
	}, err
}

func (s *catalogServer) DeleteManifest(ctx context.Context, req *metadatav1.DeleteManifestRequest) (*metadatav1.DeleteManifestResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.catalog.DeleteManifest(ctx, actorOf(ctx, req.GetActor()), repo, digest)
	}
	if err != nil {
		return nil, err
	}
	return &metadatav1.DeleteManifestResponse{}, nil
}

func (s *catalogServer) GetBlob(ctx context.Context, req *metadatav1.GetBlobRequest) (*metadatav1.GetBlobResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	b, err := s.catalog.Blob(ctx, actorOf(ctx, req.GetActor()), repo, digest)
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetBlobResponse{Stored: storedToWire(b.Stored), Inline: b.Inline, Unverified: b.Unverified}, nil
}

func (s *catalogServer) LinkBlob(ctx context.Context, req *metadatav1.LinkBlobRequest) (*metadatav1.LinkBlobResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	stored, err := parseStored(req.GetStored())
	if err != nil {
		return nil, err
	}
	used, err := s.catalog.Link(ctx, actorOf(ctx, req.GetActor()), repo, stored)
	if err != nil {
		return nil, err
	}
	return &metadatav1.LinkBlobResponse{Stored: storedToWire(used)}, nil
}

func (s *catalogServer) MountBlob(ctx context.Context, req *metadatav1.MountBlobRequest) (*metadatav1.MountBlobResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	var from registry.Name
	if req.GetFrom() != "" {
		if from, err = registry.ParseName(req.GetFrom()); err != nil {
			return nil, err
		}
	}
	used, err := s.catalog.Mount(ctx, actorOf(ctx, req.GetActor()), repo, digest, from)
	if err != nil {
		return nil, err
	}
	return &metadatav1.MountBlobResponse{Stored: storedToWire(used)}, nil
}

func (s *catalogServer) UnlinkBlob(ctx context.Context, req *metadatav1.UnlinkBlobRequest) (*metadatav1.UnlinkBlobResponse, error) {
	repo, digest, err := repoAndDigest(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.catalog.Unlink(ctx, actorOf(ctx, req.GetActor()), repo, digest)
	}
	if err != nil {
		return nil, err
	}
	return &metadatav1.UnlinkBlobResponse{}, nil
}
