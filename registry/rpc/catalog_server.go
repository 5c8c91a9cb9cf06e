package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// ServeCatalog makes srv serve c. srv must come from [NewServer].
func ServeCatalog(srv grpc.ServiceRegistrar, c registry.Catalog) {
	metadatav1.RegisterCatalogServiceServer(srv, &catalogServer{catalog: c})
	metadatav1.RegisterCollectorServiceServer(srv, &collectorServer{catalog: c})
	metadatav1.RegisterExportServiceServer(srv, &exportServer{catalog: c})
	metadatav1.RegisterRetentionServiceServer(srv, &retentionServer{catalog: c})
	metadatav1.RegisterScrubServiceServer(srv, &scrubServer{catalog: c})
	metadatav1.RegisterLimitsServiceServer(srv, &limitsServer{catalog: c})
	metadatav1.RegisterIdentitiesServiceServer(srv, &identitiesServer{catalog: c})
	metadatav1.RegisterAccessServiceServer(srv, &accessServer{catalog: c})
	metadatav1.RegisterCacheServiceServer(srv, &cacheServer{catalog: c})
	metadatav1.RegisterAuditServiceServer(srv, &auditServer{catalog: c})
	metadatav1.RegisterAnnouncementServiceServer(srv, &announcementServer{catalog: c})
	metadatav1.RegisterTrustServiceServer(srv, &trustServer{catalog: c})
	metadatav1.RegisterTakeOverServiceServer(srv, &takeOverServer{catalog: c})
	metadatav1.RegisterSearchServiceServer(srv, &searchServer{catalog: c})
}

// catalogServer serves registry.Catalog. It checks what clients send, so that
// catalog sees well-formed values only.
type catalogServer struct {
	metadatav1.UnimplementedCatalogServiceServer
	catalog registry.Catalog
}

// maxList is the size of a list in bytes from which on it is cut. The largest
// entry, a referrer's annotations, is no larger than a manifest.
const maxList = registry.MaxManifest

// fit returns how many of the n entries of a list fit in a message, at least one.
func fit(n int, size func(i int) int) int {
	total := 0
	for i := range n {
		total += size(i) + 8 // tag and length
		if total > maxList && i > 0 {
			return i
		}
	}
	return n
}

// fitted turns the items of a list into messages, as many as fit into an answer, and
// reports whether there are more.
func fitted[T any, M proto.Message](list registry.List[T], message func(T) M) (all []M, more bool) {
	all = make([]M, len(list.Items))
	for i, item := range list.Items {
		all[i] = message(item)
	}
	n := fit(len(all), func(i int) int { return proto.Size(all[i]) })
	return all[:n], list.More || n < len(all)
}

func (s *catalogServer) ListRepositories(ctx context.Context, req *metadatav1.ListRepositoriesRequest) (*metadatav1.ListRepositoriesResponse, error) {
	list, err := s.catalog.Repositories(ctx, actorOf(ctx, req.GetActor()), pageFromWire[registry.Name](req.GetPage()))
	if err != nil {
		return nil, err
	}
	n := fit(len(list.Items), func(i int) int { return len(list.Items[i]) })
	return &metadatav1.ListRepositoriesResponse{Repositories: toStrings(list.Items[:n]), More: list.More || n < len(list.Items)}, nil
}

func (s *catalogServer) AdmitUpload(ctx context.Context, req *metadatav1.AdmitUploadRequest) (*metadatav1.AdmitUploadResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	pool, err := s.catalog.Admit(ctx, actorOf(ctx, req.GetActor()), repo)
	if err != nil {
		return nil, err
	}
	return &metadatav1.AdmitUploadResponse{Pool: text(string(pool))}, nil
}

func (s *catalogServer) ListTags(ctx context.Context, req *metadatav1.ListTagsRequest) (*metadatav1.ListTagsResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Tags(ctx, actorOf(ctx, req.GetActor()), repo, pageFromWire[registry.Tag](req.GetPage()))
	if err != nil {
		return nil, err
	}
	n := fit(len(list.Items), func(i int) int { return len(list.Items[i]) })
	return &metadatav1.ListTagsResponse{Tags: toStrings(list.Items[:n]), More: list.More || n < len(list.Items)}, nil
}

func (s *catalogServer) ListTagHistory(ctx context.Context, req *metadatav1.ListTagHistoryRequest) (*metadatav1.ListTagHistoryResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	tag, err := registry.ParseTag(req.GetTag())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.TagHistory(ctx, actorOf(ctx, req.GetActor()), repo, tag, int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListTagHistoryResponse{Changes: make([]*metadatav1.TagChange, len(list))}
	for i, ch := range list {
		resp.Changes[i] = &metadatav1.TagChange{AtUs: ch.At, ActorId: text(ch.Actor), Digest: text(ch.Digest.String())}
	}
	return resp, nil
}

func (s *catalogServer) DeleteTag(ctx context.Context, req *metadatav1.DeleteTagRequest) (*metadatav1.DeleteTagResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	tag, err := registry.ParseTag(req.GetTag())
	if err != nil {
		return nil, err
	}
	cond, err := parseCondition(req.GetCondition())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.DeleteTag(ctx, actorOf(ctx, req.GetActor()), repo, tag, cond); err != nil {
		return nil, err
	}
	return &metadatav1.DeleteTagResponse{}, nil
}

func (s *catalogServer) ListReferrers(ctx context.Context, req *metadatav1.ListReferrersRequest) (*metadatav1.ListReferrersResponse, error) {
	repo, subject, err := repoAndDigest(req.GetRepository(), req.GetSubject())
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.Referrers(ctx, actorOf(ctx, req.GetActor()), repo, subject, req.GetArtifactType(), pageFromWire[registry.Digest](req.GetPage()))
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, descriptorToWire)
	return &metadatav1.ListReferrersResponse{Referrers: all, More: more}, nil
}

func (s *catalogServer) ListUploadKeys(ctx context.Context, _ *metadatav1.ListUploadKeysRequest) (*metadatav1.ListUploadKeysResponse, error) {
	keys, err := s.catalog.UploadKeys(ctx)
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListUploadKeysResponse{Keys: make([]*metadatav1.Key, len(keys))}
	for i, k := range keys {
		resp.Keys[i] = &metadatav1.Key{Id: text(k.ID), Secret: k.Secret}
	}
	return resp, nil
}

func (s *catalogServer) Check(ctx context.Context, _ *metadatav1.CheckRequest) (*metadatav1.CheckResponse, error) {
	h, err := s.catalog.Check(ctx)
	if err != nil {
		return nil, err
	}
	return &metadatav1.CheckResponse{ReadOnly: text(h.ReadOnly)}, nil
}

func repoAndDigest(repo, digest string) (registry.Name, registry.Digest, error) {
	n, err := registry.ParseName(repo)
	if err != nil {
		return "", "", err
	}
	d, err := registry.ParseDigest(digest)
	return n, d, err
}
