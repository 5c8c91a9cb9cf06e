package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// page is a part of a list. A limit of 0 is none.
type page struct {
	limit, offset int
	order         registry.SearchOrder
}

// pageOf reads the argument requestedPage.
func pageOf(f *request, order registry.SearchOrder) (page, error) {
	p := page{order: order}
	in, _ := f.args["requestedPage"].(map[string]any)
	limit, _ := number(in, "limit")
	offset, _ := number(in, "offset")
	if limit < 0 || offset < 0 || offset > 1<<30 {
		return p, registry.ErrParameterInvalid.With("limit and offset must not be negative")
	}
	p.limit, p.offset = int(min(limit, maxResults)), int(offset)
	switch textOf(in, "sortBy") {
	case "ALPHABETIC_ASC":
		p.order = registry.ByName
	case "ALPHABETIC_DSC":
		p.order = registry.ByNameDescending
	case "UPDATE_TIME":
		p.order = registry.ByUpdate
	case "DOWNLOADS":
		p.order = registry.ByDownloads
	case "STARS":
		p.order = registry.ByStars
	case "RELEVANCE", "SEVERITY":
		p.order = registry.ByRelevance
	}
	return p, nil
}

// filterOf reads the argument filter.
func filterOf(f *request) registry.SearchFilter {
	in, _ := f.args["filter"].(map[string]any)
	out := registry.SearchFilter{OS: texts(in["Os"]), Arch: texts(in["Arch"])}
	out.Signed, _ = in["HasToBeSigned"].(bool)
	if b, ok := in["IsStarred"].(bool); ok {
		out.Starred = &b
	}
	if b, ok := in["IsBookmarked"].(bool); ok {
		out.Bookmarked = &b
	}
	return out
}

// queryValue is the root of all queries.
type queryValue struct{ s *session }

func (v queryValue) field(ctx context.Context, f *request) (any, error) {
	s := v.s
	switch f.Name {
	case "__schema":
		return schemaValue{s.h.schema}, nil
	case "__type":
		return named(s.h.schema, f.text("name")), nil
	case "GlobalSearch":
		return s.global(ctx, f)
	case "RepoListWithNewestImage":
		return s.repoList(ctx, f, registry.SearchFilter{})
	case "StarredRepos", "BookmarkedRepos":
		yes := true
		if s.actor.Anonymous() {
			return reposPage(s, registry.Found[registry.FoundRepository]{}), nil
		}
		if f.Name == "StarredRepos" {
			return s.repoList(ctx, f, registry.SearchFilter{Starred: &yes})
		}
		return s.repoList(ctx, f, registry.SearchFilter{Bookmarked: &yes})
	case "ImageList":
		return s.imageList(ctx, f, registry.ImageQuery{Repository: registry.Name(f.text("repo"))}, registry.ByRelevance)
	case "ImageListForDigest":
		id := f.text("id")
		if id != "" && !strings.Contains(id, ":") {
			id = "sha256:" + id
		}
		return s.imageList(ctx, f, registry.ImageQuery{Content: id}, registry.ByRelevance)
	case "BaseImageList", "DerivedImageList":
		return s.related(ctx, f)
	case "Image":
		i, err := s.image(ctx, f.text("image"), f.names())
		if err != nil {
			return nil, err
		}
		return imageValue{i, s}, nil
	case "ExpandedRepoInfo":
		return s.repoInfo(ctx, f)
	case "Referrers":
		return s.referrers(ctx, f)
	}
	return s.cve(ctx, f)
}

// imagesPage is a PaginatedImagesResult.
func imagesPage(s *session, found registry.Found[registry.FoundImage]) fields {
	results, tags := []any{}, []any{}
	var names []string
	for i := range found.Items {
		x := &found.Items[i]
		results = append(results, imageValue{x, s})
		tags = append(tags, string(x.Repository)+":"+string(x.Tag))
		if !slices.Contains(names[max(0, len(names)-1):], string(x.Repository)) {
			names = append(names, string(x.Repository))
		}
	}
	slices.Sort(names)
	return fields{"Page": pageInfo(found.Total, len(results)), "Results": results, "Name": anys(slices.Compact(names)), "Tags": tags}
}

func reposPage(s *session, found registry.Found[registry.FoundRepository]) fields {
	results := []any{}
	for i := range found.Items {
		results = append(results, repoValue{&found.Items[i], s})
	}
	return fields{"Page": pageInfo(found.Total, len(results)), "Results": results}
}

func (s *session) imageList(ctx context.Context, f *request, q registry.ImageQuery, order registry.SearchOrder) (any, error) {
	p, err := pageOf(f, order)
	if err != nil {
		return nil, err
	}
	if _, err := registry.ParseName(string(q.Repository)); q.Repository != "" && err != nil {
		return imagesPage(s, registry.Found[registry.FoundImage]{}), nil // there is none of that name
	}
	q.Filter = filterOf(f)
	found, err := s.images(ctx, q, p, f.names())
	if err != nil {
		return nil, err
	}
	return imagesPage(s, found), nil
}

func (s *session) repoList(ctx context.Context, f *request, filter registry.SearchFilter) (any, error) {
	p, err := pageOf(f, registry.ByUpdate)
	if err != nil {
		return nil, err
	}
	found, err := s.repositories(ctx, registry.RepositoryQuery{Filter: filter}, p, f.below("Results"))
	if err != nil {
		return nil, err
	}
	return reposPage(s, found), nil
}

// global answers GlobalSearch: what is looked for depends on the text's form.
func (s *session) global(ctx context.Context, f *request) (any, error) {
	p, err := pageOf(f, registry.ByRelevance)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(f.text("query"))
	if len(text) > registry.MaxSearchText {
		return nil, registry.ErrParameterInvalid.With("a query has at most %d bytes", registry.MaxSearchText)
	}
	none := fields{"Page": pageInfo(0, 0), "Images": []any{}, "Repos": []any{}, "Layers": []any{}}
	repo, tag, byTag := strings.Cut(text, ":")
	q := registry.ImageQuery{Filter: filterOf(f)}
	switch {
	case strings.HasPrefix(text, "sha256:") || strings.HasPrefix(text, "sha512:"):
		q.Content = text
	case byTag && repo == "":
		q.TagPart = tag
	case byTag:
		if q.Repository, err = registry.ParseName(repo); err != nil {
			return none, nil // there is none of that name
		}
		q.TagPrefix = tag
	default:
		found, err := s.repositories(ctx, registry.RepositoryQuery{Text: text, Filter: q.Filter}, p, f.below("Repos"))
		if err != nil {
			return nil, err
		}
		none["Page"], none["Repos"] = pageInfo(found.Total, len(found.Items)), reposPage(s, found)["Results"]
		return none, nil
	}
	names := map[string]bool{}
	if images := f.below("Images"); images != nil {
		names = images.names()
	}
	found, err := s.images(ctx, q, p, names)
	if err != nil {
		return nil, err
	}
	none["Page"], none["Images"] = pageInfo(found.Total, len(found.Items)), imagesPage(s, found)["Results"]
	return none, nil
}

// parseImage reads "repository:tag" or "repository@digest"; a name alone is its latest.
func parseImage(text string) (repo registry.Name, ref registry.Reference, err error) {
	name, digest, byDigest := strings.Cut(text, "@")
	tag := "latest"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	if repo, err = registry.ParseName(name); err != nil {
		return "", ref, err
	}
	if byDigest {
		ref.Digest, err = registry.ParseDigest(digest)
	} else {
		ref.Tag, err = registry.ParseTag(tag)
	}
	return repo, ref, err
}

// image finds one image. One that may not be read is not there.
func (s *session) image(ctx context.Context, text string, names map[string]bool) (*registry.FoundImage, error) {
	missing := registry.ErrManifestUnknown.With("can't find image: %.300s", text)
	repo, ref, err := parseImage(text)
	if err != nil {
		return nil, missing
	}
	found, err := s.images(ctx, registry.ImageQuery{Repository: repo, Ref: ref}, page{limit: 1}, names)
	if err != nil {
		return nil, err
	}
	if len(found.Items) == 0 {
		return nil, missing
	}
	return &found.Items[0], nil
}

// related answers BaseImageList and DerivedImageList: by the layers of an image, or of
// that one of an index whose digest is given, or else the first.
func (s *session) related(ctx context.Context, f *request) (any, error) {
	i, err := s.image(ctx, f.text("image"), map[string]bool{"Layers": true})
	if err != nil {
		return nil, err
	}
	all := (imageValue{i, s}).manifests()
	if d := f.text("digest"); d != "" {
		at := slices.IndexFunc(all, func(m registry.FoundManifest) bool { return m.Digest.String() == d })
		if at < 0 {
			return nil, registry.ErrManifestUnknown.With("the image has no manifest %.100s", d)
		}
		all = all[at:]
	}
	layers := []registry.Digest{}
	q := registry.ImageQuery{Except: i.Digest}
	if len(all) > 0 {
		q.Except = all[0].Digest
		for _, l := range contentOf(all[0]).Layers {
			layers = append(layers, l.Digest)
		}
	}
	if len(layers) == 0 || len(layers) > registry.MaxSearchLayers {
		return imagesPage(s, registry.Found[registry.FoundImage]{}), nil
	}
	if f.Name == "BaseImageList" {
		q.BaseOf = layers
	} else {
		q.DerivedFrom = layers
	}
	return s.imageList(ctx, f, q, registry.ByUpdate)
}

// repoInfo answers ExpandedRepoInfo.
func (s *session) repoInfo(ctx context.Context, f *request) (any, error) {
	none := fields{"Images": []any{}, "Summary": fields{}}
	repo, err := registry.ParseName(f.text("repo"))
	if err != nil {
		return none, nil // there is none of that name
	}
	found, err := s.repositories(ctx, registry.RepositoryQuery{Name: repo}, page{limit: 1}, f.below("Summary"))
	if err != nil || len(found.Items) == 0 {
		return none, err
	}
	none["Summary"] = repoValue{&found.Items[0], s}
	if f.below("Images") == nil {
		return none, nil
	}
	images, err := s.images(ctx, registry.ImageQuery{Repository: repo}, page{order: registry.ByUpdate}, f.below("Images").names())
	if err != nil {
		return nil, err
	}
	none["Images"] = imagesPage(s, images)["Results"]
	return none, nil
}

// referrers answers Referrers.
func (s *session) referrers(ctx context.Context, f *request) (any, error) {
	repo, err := registry.ParseName(f.text("repo"))
	if err != nil {
		return []any{}, nil // there is none of that name
	}
	d, err := registry.ParseDigest(f.text("digest"))
	if err != nil {
		return nil, err
	}
	types := texts(f.args["type"])
	if len(types) == 0 {
		types = []string{""}
	}
	if len(types) > maxListed {
		return nil, fmt.Errorf("a list has at most %d values: %w", maxListed, registry.ErrParameterInvalid)
	}
	if err := s.take(len(types) * 100); err != nil {
		return nil, err
	}
	list := []any{}
	for _, t := range slices.Compact(slices.Sorted(slices.Values(types))) {
		p := registry.Page[registry.Digest]{Limit: registry.MaxSearch}
		for {
			l, err := s.h.catalog.Referrers(ctx, s.actor, repo, d, t, p)
			if errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrUnauthorized) {
				return []any{}, nil
			}
			if err != nil {
				return nil, err
			}
			for _, x := range l.Items {
				list = append(list, referrerValue(x))
			}
			if !l.More || len(l.Items) == 0 || len(list) >= maxResults {
				break
			}
			p.After = l.Items[len(l.Items)-1].Digest
		}
	}
	return list, nil
}
