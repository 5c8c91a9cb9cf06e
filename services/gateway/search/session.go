package search

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/registry"
)

// session is what one request has found out so far.
type session struct {
	h        *Handler
	actor    registry.Actor
	room     int // how many results may still be asked for
	verified int // how many images' signatures were
	// counts are what was found in images that were looked up.
	counts map[registry.Digest]registry.SeverityCounts
}

// maxResults is how many results a query without a limit has.
const maxResults = 10_000

// take counts results that are asked for, and refuses those that nobody's role allows.
func (s *session) take(n int) error {
	if s.room -= n; s.room < 0 {
		return registry.ErrTooManyRequests.With("this is more than one query may ask for: ask for pages, or for fewer things at once")
	}
	return nil
}

// charge counts results beyond those that were taken for a page without a limit, so that
// what is asked for after them is refused.
func (s *session) charge(p page, results int) { s.room -= max(0, results-cost(p)) }

// images lists images, as many as a page has.
func (s *session) images(ctx context.Context, q registry.ImageQuery, p page, names map[string]bool) (registry.Found[registry.FoundImage], error) {
	q.Order, q.Offset, q.Detail = p.order, p.offset, detailOf(names)
	if err := s.take(cost(p)); err != nil {
		return registry.Found[registry.FoundImage]{}, err
	}
	found, err := all(p, func(offset, limit int) (registry.Found[registry.FoundImage], error) {
		q.Offset, q.Limit = offset, limit
		return s.h.catalog.SearchImages(ctx, s.actor, q)
	})
	if err != nil {
		return found, err
	}
	s.charge(p, len(found.Items))
	images := make([]*registry.FoundImage, len(found.Items))
	for i := range found.Items {
		images[i] = &found.Items[i]
	}
	return found, s.look(ctx, names, images...)
}

// repositories lists repositories, as many as a page has.
func (s *session) repositories(ctx context.Context, q registry.RepositoryQuery, p page, f *request) (registry.Found[registry.FoundRepository], error) {
	q.Order, q.Offset = p.order, p.offset
	var shown map[string]bool // of newest images
	if f != nil {
		names := f.names()
		q.Content = names["Size"] || names["Platforms"] || names["Vendors"]
		if newest := f.below("NewestImage"); newest != nil {
			shown = newest.names()
			q.NewestImage, q.Detail = true, detailOf(shown)
		}
	}
	if err := s.take(cost(p)); err != nil {
		return registry.Found[registry.FoundRepository]{}, err
	}
	found, err := all(p, func(offset, limit int) (registry.Found[registry.FoundRepository], error) {
		q.Offset, q.Limit = offset, limit
		return s.h.catalog.SearchRepositories(ctx, s.actor, q)
	})
	if err != nil {
		return found, err
	}
	s.charge(p, len(found.Items))
	var newest []*registry.FoundImage
	for _, r := range found.Items {
		if r.Newest != nil {
			newest = append(newest, r.Newest)
		}
	}
	return found, s.look(ctx, shown, newest...)
}

// cost is how many results a page may have.
func cost(p page) int {
	if p.limit == 0 {
		return 100 // few have thousands
	}
	return p.limit
}

// all asks until a page is full, or there is no more.
func all[T any](p page, ask func(offset, limit int) (registry.Found[T], error)) (registry.Found[T], error) {
	want := p.limit
	if want == 0 {
		want = maxResults
	}
	var sum registry.Found[T]
	for offset := p.offset; ; {
		found, err := ask(offset, min(want-len(sum.Items), registry.MaxSearch))
		if err != nil {
			return sum, err
		}
		sum.Items, sum.Total = append(sum.Items, found.Items...), found.Total
		offset += len(found.Items)
		if len(found.Items) == 0 || len(sum.Items) >= want || offset >= found.Total {
			return sum, nil
		}
	}
}

// detailOf returns what to ask of images so that they have fields of these names.
func detailOf(names map[string]bool) (d registry.ImageDetail) {
	for n := range names {
		switch n {
		case "RepoName", "Tag", "Digest", "IsDeletable", "Results", "Page", "TotalCount", "ItemCount", "Name", "Tags", "__typename",
			"Vulnerabilities", "MaxSeverity", "Count", "UnknownCount", "LowCount", "MediumCount", "HighCount", "CriticalCount":
		case "DownloadCount", "LastPullTimestamp":
			d |= registry.DetailPulls
		case "IsSigned", "SignatureInfo", "Tool", "IsTrusted", "Author":
			d |= registry.DetailReferrers
		case "Referrers":
			d |= registry.DetailReferrers
		default:
			d |= registry.DetailContent
		}
	}
	return d
}

// maxVerified is how many images' signatures one query has verified: each reads some
// blobs.
const maxVerified = 200

// signatures tells who signed an image. What nobody verifies is told by its tool.
func (s *session) signatures(ctx context.Context, repo registry.Name, m registry.FoundManifest) (any, error) {
	all := []any{}
	if s.h.signed != nil && len(m.Signatures) > 0 && s.verified < maxVerified {
		s.verified++
		list, err := s.h.signed(ctx, s.actor, repo, m.Digest)
		if err != nil && !errors.Is(err, registry.ErrManifestUnknown) { // which was removed meanwhile
			return nil, err
		}
		for _, x := range list {
			all = append(all, fields{"Tool": x.Tool, "IsTrusted": x.Trusted, "Author": x.Author})
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	for _, tool := range m.Signatures {
		all = append(all, fields{"Tool": tool, "IsTrusted": false, "Author": ""})
	}
	return all, nil
}
