package rpc

import (
	"context"
	"encoding/json"
	"math"

	"google.golang.org/protobuf/proto"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) SearchImages(ctx context.Context, a registry.Actor, q registry.ImageQuery) (registry.Found[registry.FoundImage], error) {
	found := registry.Found[registry.FoundImage]{}
	actor, err := actorToWire(a)
	if err != nil {
		return found, err
	}
	if err := q.Check(); err != nil { // its numbers might not fit
		return found, err
	}
	resp, err := read(ctx, c, c.search.SearchImages, &metadatav1.SearchImagesRequest{
		Actor: actor, Repository: text(string(q.Repository)), Reference: referenceToWire(q.Ref), TagPrefix: text(q.TagPrefix), TagPart: text(q.TagPart),
		Content: text(q.Content), BaseOf: toStrings(q.BaseOf), DerivedFrom: toStrings(q.DerivedFrom), Manifests: toStrings(q.Manifests), Except: text(string(q.Except)),
		Filter: filterToWire(q.Filter), Order: metadatav1.SearchOrder(q.Order), Offset: int32(q.Offset), Limit: int32(q.Limit), Detail: detailToWire(q.Detail),
	})
	if err != nil {
		return found, err
	}
	for _, w := range resp.GetImages() {
		i, err := imageFromWire(w)
		if err != nil {
			return found, err
		}
		found.Items = append(found.Items, i)
	}
	found.Total = int(resp.GetTotal())
	return found, nil
}

func (c *catalog) SearchRepositories(ctx context.Context, a registry.Actor, q registry.RepositoryQuery) (registry.Found[registry.FoundRepository], error) {
	found := registry.Found[registry.FoundRepository]{}
	actor, err := actorToWire(a)
	if err != nil {
		return found, err
	}
	if err := q.Check(); err != nil { // its numbers might not fit
		return found, err
	}
	resp, err := read(ctx, c, c.search.SearchRepositories, &metadatav1.SearchRepositoriesRequest{
		Actor: actor, Name: text(string(q.Name)), Text: text(q.Text), Filter: filterToWire(q.Filter), Order: metadatav1.SearchOrder(q.Order),
		Offset: int32(q.Offset), Limit: int32(q.Limit), NewestImage: q.NewestImage, Detail: detailToWire(q.Detail), Content: q.Content,
	})
	if err != nil {
		return found, err
	}
	for _, w := range resp.GetRepositories() {
		f := registry.FoundRepository{
			Name: registry.Name(w.GetName()), Updated: w.GetUpdatedUs(), Size: w.GetSize(), Platforms: w.GetPlatforms(), Vendors: w.GetVendors(),
			Downloads: w.GetDownloads(), Stars: w.GetStars(), Starred: w.GetStarred(), Bookmarked: w.GetBookmarked(), Rank: int(w.GetRank()),
		}
		if w.GetNewest() != nil {
			i, err := imageFromWire(w.GetNewest())
			if err != nil {
				return found, err
			}
			f.Newest = &i
		}
		found.Items = append(found.Items, f)
	}
	found.Total = int(resp.GetTotal())
	return found, nil
}

func (c *catalog) TogglePreference(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Preference) (bool, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return false, err
	}
	resp, err := write(ctx, c, c.search.TogglePreference, &metadatav1.TogglePreferenceRequest{
		Actor: actor, Repository: text(string(repo)), Preference: metadatav1.Preference(p),
	})
	return resp.GetOn(), err
}

func filterToWire(f registry.SearchFilter) *metadatav1.SearchFilter {
	w := &metadatav1.SearchFilter{Signed: f.Signed, Starred: f.Starred, Bookmarked: f.Bookmarked}
	for _, s := range f.OS {
		w.Os = append(w.Os, text(s))
	}
	for _, s := range f.Arch {
		w.Arch = append(w.Arch, text(s))
	}
	return w
}

func filterFromWire(w *metadatav1.SearchFilter) registry.SearchFilter {
	if w == nil {
		return registry.SearchFilter{}
	}
	return registry.SearchFilter{OS: w.GetOs(), Arch: w.GetArch(), Signed: w.GetSigned(), Starred: w.Starred, Bookmarked: w.Bookmarked}
}

func orderFromWire(o metadatav1.SearchOrder) registry.SearchOrder {
	return registry.SearchOrder(max(0, min(o, math.MaxUint8))) // which those who check know nothing of
}

func detailToWire(d registry.ImageDetail) *metadatav1.ImageDetail {
	return &metadatav1.ImageDetail{
		Content: d&registry.DetailContent != 0, Pulls: d&registry.DetailPulls != 0, Referrers: d&registry.DetailReferrers != 0,
	}
}

func detailFromWire(w *metadatav1.ImageDetail) (d registry.ImageDetail) {
	for bit, set := range map[registry.ImageDetail]bool{
		registry.DetailContent: w.GetContent(), registry.DetailPulls: w.GetPulls(), registry.DetailReferrers: w.GetReferrers(),
	} {
		if set {
			d |= bit
		}
	}
	return d
}

func foundToWire(f registry.FoundManifest) (*metadatav1.FoundManifest, error) {
	w := &metadatav1.FoundManifest{
		Digest: text(f.Digest.String()), MediaType: text(f.MediaType), Size: f.Size, Content: f.Bytes, ArtifactType: text(f.ArtifactType),
		CreatedUs: f.Created, Downloads: f.Downloads, LastPullUs: f.LastPull, Signatures: f.Signatures,
	}
	if f.Config != nil {
		var err error
		if w.Config, err = json.Marshal(f.Config); err != nil {
			return nil, err
		}
	}
	for _, d := range f.Referrers {
		w.Referrers = append(w.Referrers, descriptorToWire(d))
	}
	return w, nil
}

func foundFromWire(w *metadatav1.FoundManifest) (registry.FoundManifest, error) {
	f := registry.FoundManifest{
		Manifest:     registry.Manifest{Digest: registry.Digest(w.GetDigest()), MediaType: w.GetMediaType(), Size: w.GetSize(), Bytes: w.GetContent()},
		ArtifactType: w.GetArtifactType(), Created: w.GetCreatedUs(), Downloads: w.GetDownloads(), LastPull: w.GetLastPullUs(), Signatures: w.GetSignatures(),
	}
	if len(w.GetConfig()) > 0 {
		f.Config = new(registry.ImageConfig)
		if err := json.Unmarshal(w.GetConfig(), f.Config); err != nil {
			return f, registry.ErrInternal.Because(err)
		}
	}
	for _, d := range w.GetReferrers() {
		f.Referrers = append(f.Referrers, descriptorFromWire(d))
	}
	return f, nil
}

func imageToWire(i registry.FoundImage) (*metadatav1.FoundImage, error) {
	w := &metadatav1.FoundImage{
		Repository: text(string(i.Repository)), Tag: text(string(i.Tag)), PushedUs: i.Pushed, TaggedUs: i.Tagged, PushedBy: text(i.PushedBy), Deletable: i.Deletable,
	}
	var err error
	if w.Manifest, err = foundToWire(i.FoundManifest); err != nil {
		return nil, err
	}
	for _, m := range i.Manifests {
		child, err := foundToWire(m)
		if err != nil {
			return nil, err
		}
		w.Manifests = append(w.Manifests, child)
	}
	return w, nil
}

func imageFromWire(w *metadatav1.FoundImage) (registry.FoundImage, error) {
	i := registry.FoundImage{
		Repository: registry.Name(w.GetRepository()), Tag: registry.Tag(w.GetTag()),
		Pushed: w.GetPushedUs(), Tagged: w.GetTaggedUs(), PushedBy: w.GetPushedBy(), Deletable: w.GetDeletable(),
	}
	var err error
	if i.FoundManifest, err = foundFromWire(w.GetManifest()); err != nil {
		return i, err
	}
	for _, m := range w.GetManifests() {
		child, err := foundFromWire(m)
		if err != nil {
			return i, err
		}
		i.Manifests = append(i.Manifests, child)
	}
	return i, nil
}

// searchServer serves the part of registry.Catalog that SearchService has.
type searchServer struct {
	metadatav1.UnimplementedSearchServiceServer
	catalog registry.Catalog
}

func (s *searchServer) SearchImages(ctx context.Context, req *metadatav1.SearchImagesRequest) (*metadatav1.SearchImagesResponse, error) {
	q := registry.ImageQuery{
		TagPrefix: req.GetTagPrefix(), TagPart: req.GetTagPart(), Content: req.GetContent(),
		BaseOf: fromStrings[registry.Digest](req.GetBaseOf()), DerivedFrom: fromStrings[registry.Digest](req.GetDerivedFrom()), Manifests: fromStrings[registry.Digest](req.GetManifests()),
		Filter: filterFromWire(req.GetFilter()), Order: orderFromWire(req.GetOrder()), Offset: int(req.GetOffset()), Limit: int(req.GetLimit()),
		Detail: detailFromWire(req.GetDetail()),
	}
	var err error
	if req.GetRepository() != "" {
		if q.Repository, err = registry.ParseName(req.GetRepository()); err != nil {
			return nil, err
		}
	}
	if r := req.GetReference(); r.GetTag() != "" || r.GetDigest() != "" {
		if q.Ref, err = parseReference(r); err != nil {
			return nil, err
		}
	}
	if q.Except, err = parseOptionalDigest(req.GetExcept()); err != nil {
		return nil, err
	}
	found, err := s.catalog.SearchImages(ctx, actorOf(ctx, req.GetActor()), q)
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.SearchImagesResponse{Total: int64(found.Total)}
	for _, i := range found.Items {
		w, err := imageToWire(i)
		if err != nil {
			return nil, err
		}
		resp.Images = append(resp.Images, w)
	}
	resp.Images = resp.Images[:fit(len(resp.Images), func(i int) int { return proto.Size(resp.Images[i]) })]
	return resp, nil
}

func (s *searchServer) SearchRepositories(ctx context.Context, req *metadatav1.SearchRepositoriesRequest) (*metadatav1.SearchRepositoriesResponse, error) {
	q := registry.RepositoryQuery{
		Text: req.GetText(), Filter: filterFromWire(req.GetFilter()), Order: orderFromWire(req.GetOrder()), Offset: int(req.GetOffset()), Limit: int(req.GetLimit()),
		NewestImage: req.GetNewestImage(), Detail: detailFromWire(req.GetDetail()), Content: req.GetContent(),
	}
	if req.GetName() != "" {
		var err error
		if q.Name, err = registry.ParseName(req.GetName()); err != nil {
			return nil, err
		}
	}
	found, err := s.catalog.SearchRepositories(ctx, actorOf(ctx, req.GetActor()), q)
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.SearchRepositoriesResponse{Total: int64(found.Total)}
	for _, f := range found.Items {
		w := &metadatav1.FoundRepository{
			Name: text(string(f.Name)), UpdatedUs: f.Updated, Size: f.Size, Platforms: f.Platforms, Vendors: toStrings(f.Vendors),
			Downloads: f.Downloads, Stars: f.Stars, Starred: f.Starred, Bookmarked: f.Bookmarked, Rank: size32(f.Rank),
		}
		if f.Newest != nil {
			if w.Newest, err = imageToWire(*f.Newest); err != nil {
				return nil, err
			}
		}
		resp.Repositories = append(resp.Repositories, w)
	}
	resp.Repositories = resp.Repositories[:fit(len(resp.Repositories), func(i int) int { return proto.Size(resp.Repositories[i]) })]
	return resp, nil
}

func (s *searchServer) TogglePreference(ctx context.Context, req *metadatav1.TogglePreferenceRequest) (*metadatav1.TogglePreferenceResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	on, err := s.catalog.TogglePreference(ctx, actorOf(ctx, req.GetActor()), repo, registry.Preference(max(0, min(req.GetPreference(), math.MaxUint8))))
	if err != nil {
		return nil, err
	}
	return &metadatav1.TogglePreferenceResponse{On: on}, nil
}
