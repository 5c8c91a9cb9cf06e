package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
)

const sqlImageByDigest = `SELECT r.id FROM repositories r JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 WHERE r.name = $1`

// Where images come from.
const (
	findTagged = ` FROM repositories r JOIN tags t ON t.repo_id = r.id LEFT JOIN images i ON i.repo_id = t.repo_id AND i.digest = t.digest WHERE 1 = 1`
	// Tags are looked up for what was found, and not the other way round: COALESCE
	// leaves SQLite no choice.
	findAmong = ` FROM found x JOIN tags t ON t.repo_id = COALESCE(x.repo_id, 0) AND t.digest = COALESCE(x.digest, x.digest) JOIN repositories r ON r.id = t.repo_id
		LEFT JOIN images i ON i.repo_id = t.repo_id AND i.digest = t.digest WHERE 1 = 1`
	findContent = `WITH RECURSIVE found (repo_id, digest) AS (
		SELECT m.repo_id, m.digest FROM manifests m WHERE m.digest >= ? AND m.digest <= ?
		UNION SELECT f.repo_id, f.manifest FROM links l JOIN manifest_references f ON f.repo_id = l.repo_id AND f.digest = l.digest
			WHERE l.digest >= ? AND l.digest <= ?`
	findListed  = `WITH RECURSIVE found (repo_id, digest) AS (SELECT m.repo_id, m.digest FROM manifests m WHERE m.digest IN `
	findBases   = `WITH RECURSIVE found (repo_id, digest) AS (SELECT b.repo_id, b.digest FROM images b WHERE b.digest <> ? AND b.layers IN `
	findDerived = `WITH RECURSIVE found (repo_id, digest) AS (SELECT b.repo_id, b.digest FROM images b WHERE b.digest <> ? AND b.layers >= ? AND b.layers <= ?`
	// The indexes that list what was found, and those that list them.
	findParents = ` UNION SELECT f.repo_id, f.manifest FROM found x JOIN manifest_references f ON f.repo_id = x.repo_id AND f.digest = x.digest WHERE f.is_manifest)`
)

// SearchImages implements [registry.Search].
func (c *Catalog) SearchImages(ctx context.Context, a registry.Actor, q registry.ImageQuery) (registry.Found[registry.FoundImage], error) {
	none := registry.Found[registry.FoundImage]{}
	if err := q.Check(); err != nil {
		return none, err
	}
	r := c.readerOf(a)
	if q.Repository != "" && !r.may(q.Repository) || !isText(q.TagPart) || !isText(q.TagPrefix) || !isText(string(q.Ref.Tag)) || !isText(string(q.Repository)) {
		return none, ctx.Err()
	}
	if q.Ref.Digest != "" {
		return c.imageByDigest(ctx, r, q)
	}
	if q.Repository == "" {
		if err := r.ids(ctx); err != nil {
			return none, err
		}
	}
	with, from, err := c.imagesOf(r, q)
	if err != nil {
		return none, err
	}
	count := with.then("SELECT COUNT(*)", from)
	found := none
	if err := c.find(ctx, count, func(scan func(...any) error) error { return scan(&found.Total) }); err != nil || q.Offset >= found.Total {
		return found, err
	}
	list := with.then("SELECT r.name, t.repo_id, t.name, t.digest", from)
	orderImages(list, q.Order)
	list.add(" LIMIT ? OFFSET ?", q.Limit, q.Offset)
	var images []foundImage
	err = c.find(ctx, list, func(scan func(...any) error) error {
		var i foundImage
		err := scan(&i.Repository, &i.key.repo, &i.Tag, &i.key.digest)
		// A repository may have come since the names were looked at, with a number that is
		// not the largest.
		if err == nil && r.may(i.Repository) {
			images = append(images, i)
		}
		return err
	})
	if err != nil {
		return none, err
	}
	found.Items, err = c.imageDetails(ctx, r, images, q.Detail)
	return found, err
}

// imagesOf returns what the images of a query come from. The parameters of the second part are numbered behind those of the first.
func (c *Catalog) imagesOf(r *reader, q registry.ImageQuery) (with, from *search, err error) {
	with = new(search)
	except := []byte{}
	if q.Except != "" {
		if except, err = pack(q.Except); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case q.Content != "":
		first, last, err := digestRange(q.Content)
		if err != nil {
			return nil, nil, err
		}
		with.add(findContent, first, last, first, last)
	case len(q.Manifests) > 0:
		digests := make([][]byte, 0, len(q.Manifests))
		for _, d := range q.Manifests {
			digests = append(digests, packKnown(d))
		}
		with.add(findListed)
		in(with, digests)
	case len(q.BaseOf) > 0:
		var prefixes [][]byte
		for i := range q.BaseOf {
			prefixes = append(prefixes, packLayers(q.BaseOf[:i+1]))
		}
		with.add(findBases, except)
		in(with, prefixes)
	case len(q.DerivedFrom) > 0:
		first := packLayers(q.DerivedFrom)
		with.add(findDerived, except, first, append(first[:len(first):len(first)], strings.Repeat("\xff", layerPart+1)...))
	}
	// Parameters go on with the next number.
	from = &search{args: with.args[:len(with.args):len(with.args)]}
	if with.text.Len() > 0 {
		with.add(findParents)
		from.add(findAmong)
	} else {
		from.add(findTagged)
	}
	from.add(findNoSignature)
	if q.Repository != "" {
		from.add(" AND r.name = ?", string(q.Repository))
	} else {
		r.restrict(from)
	}
	if q.Except != "" {
		from.add(" AND t.digest <> ?", except)
	}
	if q.Ref.Tag != "" {
		from.add(" AND t.name = ?", string(q.Ref.Tag))
	}
	if q.TagPrefix != "" {
		from.add(" AND t.name >= ? AND t.name < ?", q.TagPrefix, q.TagPrefix+"\x7f")
	}
	if q.TagPart != "" {
		from.add(" AND LOWER(t.name) LIKE ? ESCAPE '!'", "%"+escapeLike(strings.ToLower(q.TagPart))+"%")
	}
	filterImages(from, q.Filter)
	filterRepos(from, q.Filter, r.a)
	from.args = from.args[len(with.args):]
	return with, from, nil
}

// orderImages adds an order to a query for images.
func orderImages(s *search, o registry.SearchOrder) {
	switch o {
	case registry.ByNameDescending:
		s.add(" ORDER BY r.name DESC, t.name DESC")
		return
	case registry.ByUpdate:
		s.add(" ORDER BY COALESCE(i.created, 0) DESC, r.name, t.name")
	case registry.ByDownloads:
		s.add(" ORDER BY (SELECT COALESCE(SUM(p.times), 0) FROM pulls p WHERE p.repo_id = t.repo_id AND p.digest = t.digest) DESC, r.name, t.name")
	case registry.ByStars:
		s.add(" ORDER BY (SELECT COUNT(*) FROM preferences p WHERE p.repo_id = t.repo_id AND p.kind = 1) DESC, r.name, t.name")
	default:
		s.add(" ORDER BY r.name, t.name")
	}
}

// imageByDigest looks for one image that need not have a tag.
func (c *Catalog) imageByDigest(ctx context.Context, r *reader, q registry.ImageQuery) (registry.Found[registry.FoundImage], error) {
	none := registry.Found[registry.FoundImage]{}
	digest, err := pack(q.Ref.Digest)
	if err != nil {
		return none, err
	}
	i := foundImage{FoundImage: registry.FoundImage{Repository: q.Repository}, key: imageKey{digest: string(digest)}}
	err = c.db.QueryRow(ctx, sqlImageByDigest, string(q.Repository), digest).Scan(&i.key.repo)
	if errors.Is(err, sql.ErrNoRows) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("searching: %w", err)
	}
	found := registry.Found[registry.FoundImage]{Total: 1}
	if q.Offset == 0 {
		found.Items, err = c.imageDetails(ctx, r, []foundImage{i}, q.Detail)
	}
	return found, err
}
