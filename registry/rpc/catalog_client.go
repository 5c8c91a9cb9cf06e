package rpc

import (
	"context"

	"google.golang.org/grpc"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// NewCatalog returns the Catalog that is served at the other end of conn. Make
// conn with [Dial].
func NewCatalog(conn grpc.ClientConnInterface) registry.Catalog {
	return newCatalog(conn, clientLimits())
}

func newCatalog(conn grpc.ClientConnInterface, l limits) *catalog {
	return &catalog{
		client:        metadatav1.NewCatalogServiceClient(conn),
		retention:     metadatav1.NewRetentionServiceClient(conn),
		export:        metadatav1.NewExportServiceClient(conn),
		collector:     metadatav1.NewCollectorServiceClient(conn),
		scrub:         metadatav1.NewScrubServiceClient(conn),
		bounds:        metadatav1.NewLimitsServiceClient(conn),
		who:           metadatav1.NewIdentitiesServiceClient(conn),
		access:        metadatav1.NewAccessServiceClient(conn),
		cache:         metadatav1.NewCacheServiceClient(conn),
		audit:         metadatav1.NewAuditServiceClient(conn),
		takeOvers:     metadatav1.NewTakeOverServiceClient(conn),
		announcements: metadatav1.NewAnnouncementServiceClient(conn),
		trust:         metadatav1.NewTrustServiceClient(conn),
		search:        metadatav1.NewSearchServiceClient(conn),
		limits:        l,
	}
}

// catalog implements registry.Catalog.
type catalog struct {
	client        metadatav1.CatalogServiceClient
	retention     metadatav1.RetentionServiceClient
	export        metadatav1.ExportServiceClient // the same server's
	collector     metadatav1.CollectorServiceClient
	scrub         metadatav1.ScrubServiceClient
	bounds        metadatav1.LimitsServiceClient
	who           metadatav1.IdentitiesServiceClient
	access        metadatav1.AccessServiceClient
	cache         metadatav1.CacheServiceClient
	audit         metadatav1.AuditServiceClient
	takeOvers     metadatav1.TakeOverServiceClient
	announcements metadatav1.AnnouncementServiceClient
	trust         metadatav1.TrustServiceClient
	search        metadatav1.SearchServiceClient
	limits        limits
}

// read makes a call that changes nothing.
func read[Req, Resp any](ctx context.Context, c *catalog,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req,
) (*Resp, error) {
	return unary(ctx, c.limits, c.limits.read, true, f, req)
}

// write makes a call that changes something.
func write[Req, Resp any](ctx context.Context, c *catalog,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req,
) (*Resp, error) {
	return unary(ctx, c.limits, c.limits.write, false, f, req)
}

// repeated makes a call that changes something, but nothing more when it is made
// twice.
func repeated[Req, Resp any](ctx context.Context, c *catalog,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req,
) (*Resp, error) {
	return unary(ctx, c.limits, c.limits.write, true, f, req)
}

func (c *catalog) Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Name]{}, err
	}
	resp, err := read(ctx, c, c.client.ListRepositories, &metadatav1.ListRepositoriesRequest{Actor: actor, Page: pageToWire(p)})
	return listFromWire[registry.Name](resp.GetRepositories(), resp.GetMore()), err
}

func (c *catalog) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return "", err
	}
	resp, err := read(ctx, c, c.client.AdmitUpload, &metadatav1.AdmitUploadRequest{Actor: actor, Repository: text(string(repo))})
	return registry.Pool(resp.GetPool()), err
}

func (c *catalog) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Tag]{}, err
	}
	resp, err := read(ctx, c, c.client.ListTags, &metadatav1.ListTagsRequest{Actor: actor, Repository: text(string(repo)), Page: pageToWire(p)})
	return listFromWire[registry.Tag](resp.GetTags(), resp.GetMore()), err
}

func (c *catalog) TagHistory(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, limit int) ([]registry.TagChange, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.client.ListTagHistory, &metadatav1.ListTagHistoryRequest{
		Actor: actor, Repository: text(string(repo)), Tag: text(string(t)), Limit: size32(limit),
	})
	if err != nil {
		return nil, err
	}
	var list []registry.TagChange
	for _, ch := range resp.GetChanges() {
		list = append(list, registry.TagChange{At: ch.GetAtUs(), Actor: ch.GetActorId(), Digest: registry.Digest(ch.GetDigest())})
	}
	return list, nil
}

func (c *catalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Manifest{}, err
	}
	resp, err := read(ctx, c, c.client.GetManifest, &metadatav1.GetManifestRequest{
		Actor: actor, Repository: text(string(repo)), Reference: referenceToWire(q.Ref),
		Have: text(q.Have.String()), NoContent: q.NoBytes,
	})
	return registry.Manifest{
		Digest:    registry.Digest(resp.GetDigest()),
		MediaType: resp.GetMediaType(),
		Size:      resp.GetSize(),
		Bytes:     resp.GetContent(),
	}, err
}

func (c *catalog) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	req, err := putToWire(a, repo, m)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	resp, err := write(ctx, c, c.client.PutManifest, req)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	return infoFromWire(resp), nil
}

func putToWire(a registry.Actor, repo registry.Name, m registry.ManifestPut) (*metadatav1.PutManifestRequest, error) {
	actor, err := actorToWire(a)
	return &metadatav1.PutManifestRequest{
		Actor: actor, Repository: text(string(repo)), Digest: text(m.Digest.String()),
		MediaType: text(m.MediaType), Content: m.Bytes, Tags: toStrings(m.Tags), Condition: conditionToWire(m.If), ByDigest: m.ByDigest,
	}, err
}

func (c *catalog) DeleteTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, cond registry.Condition) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.client.DeleteTag, &metadatav1.DeleteTagRequest{
		Actor: actor, Repository: text(string(repo)), Tag: text(string(t)), Condition: conditionToWire(cond),
	})
	return err
}

func (c *catalog) DeleteManifest(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.client.DeleteManifest, &metadatav1.DeleteManifestRequest{
		Actor: actor, Repository: text(string(repo)), Digest: text(d.String()),
	})
	return err
}

func (c *catalog) Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.List[registry.Descriptor]{}, err
	}
	resp, err := read(ctx, c, c.client.ListReferrers, &metadatav1.ListReferrersRequest{
		Actor: actor, Repository: text(string(repo)), Subject: text(d.String()),
		ArtifactType: text(artifactType), Page: pageToWire(p),
	})
	list := registry.List[registry.Descriptor]{More: resp.GetMore()}
	for _, w := range resp.GetReferrers() {
		list.Items = append(list.Items, descriptorFromWire(w))
	}
	return list, err
}

func (c *catalog) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Blob{}, err
	}
	resp, err := read(ctx, c, c.client.GetBlob, &metadatav1.GetBlobRequest{Actor: actor, Repository: text(string(repo)), Digest: text(d.String())})
	return registry.Blob{Stored: storedFromWire(resp.GetStored()), Inline: resp.GetInline(), Unverified: resp.GetUnverified()}, err
}

func (c *catalog) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Stored{}, err
	}
	resp, err := write(ctx, c, c.client.LinkBlob, &metadatav1.LinkBlobRequest{Actor: actor, Repository: text(string(repo)), Stored: storedToWire(s)})
	return storedFromWire(resp.GetStored()), err
}

func (c *catalog) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Stored{}, err
	}
	resp, err := write(ctx, c, c.client.MountBlob, &metadatav1.MountBlobRequest{
		Actor: actor, Repository: text(string(repo)), Digest: text(d.String()), From: text(string(from)),
	})
	return storedFromWire(resp.GetStored()), err
}

func (c *catalog) Unlink(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = write(ctx, c, c.client.UnlinkBlob, &metadatav1.UnlinkBlobRequest{Actor: actor, Repository: text(string(repo)), Digest: text(d.String())})
	return err
}

func (c *catalog) UploadKeys(ctx context.Context) ([]registry.Key, error) {
	resp, err := read(ctx, c, c.client.ListUploadKeys, &metadatav1.ListUploadKeysRequest{})
	var keys []registry.Key
	for _, k := range resp.GetKeys() {
		keys = append(keys, registry.Key{ID: k.GetId(), Secret: k.GetSecret()})
	}
	return keys, err
}

func (c *catalog) Check(ctx context.Context) (registry.Health, error) {
	resp, err := read(ctx, c, c.client.Check, &metadatav1.CheckRequest{})
	return registry.Health{ReadOnly: resp.GetReadOnly()}, err
}
