package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// What repositories, r, are found and ordered by.
const (
	findRepos      = ` FROM repositories r WHERE EXISTS (SELECT 1 FROM tags t WHERE t.repo_id = r.id` + findNoSignature + `)`
	findWithImages = ` AND EXISTS (SELECT 1 FROM tags t LEFT JOIN images i ON i.repo_id = t.repo_id AND i.digest = t.digest WHERE t.repo_id = r.id` + findNoSignature
	// The newest image that a tag points to: mostly the first of the index.
	findUpdated = `COALESCE((SELECT i.created FROM images i
		WHERE i.repo_id = r.id AND EXISTS (SELECT 1 FROM tags t WHERE t.repo_id = i.repo_id AND t.digest = i.digest` + findNoSignature + `) ORDER BY i.created DESC LIMIT 1), 0)`
	findNewest = `COALESCE(
		(SELECT i.digest FROM images i WHERE i.repo_id = r.id AND EXISTS (SELECT 1 FROM tags t WHERE t.repo_id = i.repo_id AND t.digest = i.digest` + findNoSignature + `)
			ORDER BY i.created DESC, i.digest LIMIT 1),
		(SELECT t.digest FROM tags t WHERE t.repo_id = r.id` + findNoSignature + ` ORDER BY t.name DESC LIMIT 1))`
	findDownloads = `COALESCE((SELECT SUM(p.times) FROM pulls p WHERE p.repo_id = r.id), 0)`
	findStars     = `(SELECT COUNT(*) FROM preferences p WHERE p.repo_id = r.id AND p.kind = 1)`
	findSize      = `COALESCE((SELECT SUM(b.size) FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = r.id), 0)
		+ COALESCE((SELECT SUM(m.size) FROM manifests m WHERE m.repo_id = r.id), 0)`
	findPlatforms = `SELECT DISTINCT i.repo_id, i.platforms, i.vendor FROM images i WHERE i.repo_id IN `
	findTagOf     = `SELECT t.repo_id, t.digest, MAX(t.name) FROM tags t WHERE 1 = 1` + findNoSignature + ` AND `
)

// foundRepo is a repository that was found.
type foundRepo struct {
	registry.FoundRepository
	id     int64
	key    int64  // what it is ordered by, the highest first
	newest string // digest of its newest image
}

// SearchRepositories implements [registry.Search].
func (c *Catalog) SearchRepositories(ctx context.Context, a registry.Actor, q registry.RepositoryQuery) (registry.Found[registry.FoundRepository], error) {
	found := registry.Found[registry.FoundRepository]{}
	if err := q.Check(); err != nil {
		return found, err
	}
	if !isText(q.Text) || !isText(string(q.Name)) {
		return found, ctx.Err()
	}
	r := c.readerOf(a)
	all, err := c.findRepositories(ctx, r, q)
	if err != nil {
		return found, err
	}
	found.Total = len(all)
	all = all[min(q.Offset, len(all)):]
	all = all[:min(q.Limit, len(all))]
	for part := range slices.Chunk(all, searchPart) {
		if err := c.tellRepositories(ctx, r, part, q); err != nil {
			return found, err
		}
	}
	for i := range all {
		found.Items = append(found.Items, all[i].FoundRepository)
	}
	return found, nil
}

// findRepositories returns all that fits, in order.
func (c *Catalog) findRepositories(ctx context.Context, r *reader, q registry.RepositoryQuery) ([]foundRepo, error) {
	s := new(search)
	s.add("SELECT r.id, r.name, ")
	switch q.Order {
	case registry.ByUpdate:
		s.add(findUpdated)
	case registry.ByDownloads:
		s.add(findDownloads)
	case registry.ByStars:
		s.add(findStars)
	default:
		s.add("0")
	}
	s.add(findRepos)
	if q.Name != "" {
		s.add(" AND r.name = ?", string(q.Name))
	}
	if q.Text != "" {
		_, last := cutText(q.Text)
		s.add(" AND r.name LIKE ? ESCAPE '!'", "%"+escapeLike(last)+"%")
	}
	filterRepos(s, q.Filter, r.a)
	if f := q.Filter; len(f.OS)+len(f.Arch) > 0 || f.Signed {
		s.add(findWithImages)
		filterImages(s, f)
		s.add(")")
	}
	s.add(" ORDER BY r.name")
	var all []foundRepo
	err := c.find(ctx, s, func(scan func(...any) error) error {
		var f foundRepo
		if err := scan(&f.id, &f.Name, &f.key); err != nil {
			return err
		}
		if q.Text != "" {
			if f.Rank = registry.Rank(f.Name, q.Text); f.Rank < 0 {
				return nil
			}
		}
		if r.may(f.Name) {
			all = append(all, f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch q.Order {
	case registry.ByNameDescending:
		slices.Reverse(all)
	case registry.ByRelevance:
		slices.SortStableFunc(all, func(a, b foundRepo) int { return cmp.Compare(a.Rank, b.Rank) })
	default:
		slices.SortStableFunc(all, func(a, b foundRepo) int { return cmp.Compare(b.key, a.key) })
	}
	return all, nil
}

// cutText cuts a text to look for before what its last component begins with.
func cutText(s string) (path, last string) {
	i := strings.LastIndexByte(s, '/')
	return s[:i+1], s[i+1:]
}

// tellRepositories fills in what to tell of repositories.
func (c *Catalog) tellRepositories(ctx context.Context, r *reader, part []foundRepo, q registry.RepositoryQuery) error {
	ids := make([]int64, len(part))
	at := make(map[int64]*foundRepo, len(part))
	for i := range part {
		ids[i], at[part[i].id] = part[i].id, &part[i]
	}
	s := new(search)
	s.add("SELECT r.id, " + findUpdated + ", " + findDownloads + ", " + findStars + ", ")
	s.add("EXISTS (SELECT 1 FROM preferences p WHERE p.actor = ? AND p.kind = 1 AND p.repo_id = r.id), EXISTS (SELECT 1 FROM preferences p WHERE p.actor = ? AND p.kind = 2 AND p.repo_id = r.id), ", r.a.ID, r.a.ID)
	s.add(findNewest + ", ")
	if q.Content {
		s.add(findSize)
	} else {
		s.add("0")
	}
	s.add(" FROM repositories r WHERE r.id IN ")
	in(s, ids)
	err := c.find(ctx, s, func(scan func(...any) error) error {
		var id int64
		var f foundRepo
		var newest sql.NullString
		if err := scan(&id, &f.Updated, &f.Downloads, &f.Stars, &f.Starred, &f.Bookmarked, &newest, &f.Size); err != nil {
			return err
		}
		if to := at[id]; to != nil {
			to.Updated, to.Downloads, to.Stars, to.Starred, to.Bookmarked, to.Size = f.Updated, f.Downloads, f.Stars, f.Starred && r.a.ID != "", f.Bookmarked && r.a.ID != "", f.Size
			to.newest = newest.String
		}
		return nil
	})
	if err != nil {
		return err
	}
	if q.Content {
		if err := c.tellPlatforms(ctx, at, ids); err != nil {
			return err
		}
	}
	if q.NewestImage {
		return c.tellNewest(ctx, r, part, at, q.Detail)
	}
	return nil
}

func (c *Catalog) tellPlatforms(ctx context.Context, at map[int64]*foundRepo, ids []int64) error {
	s := new(search)
	s.add(findPlatforms)
	in(s, ids)
	return c.find(ctx, s, func(scan func(...any) error) error {
		var id int64
		var platforms, vendor string
		if err := scan(&id, &platforms, &vendor); err != nil {
			return err
		}
		to := at[id]
		if to == nil {
			return nil
		}
		for p := range strings.SplitSeq(platforms, ",") {
			to.Platforms = insert(to.Platforms, p)
		}
		to.Vendors = insert(to.Vendors, vendor)
		return nil
	})
}

// insert adds a text to sorted ones, unless it is "" or there.
func insert(all []string, s string) []string {
	i, ok := slices.BinarySearch(all, s)
	if ok || s == "" {
		return all
	}
	return slices.Insert(all, i, s)
}

// tellNewest fills in the newest images of repositories.
func (c *Catalog) tellNewest(ctx context.Context, r *reader, part []foundRepo, at map[int64]*foundRepo, detail registry.ImageDetail) error {
	var keys []imageKey
	for _, f := range part {
		if f.newest != "" {
			keys = append(keys, imageKey{f.id, f.newest})
		}
	}
	var images []foundImage
	err := eachPart(keys, func(all [][]any) error {
		s := new(search)
		s.add(findTagOf)
		s.any("t.repo_id = ? AND t.digest = ?", all)
		s.add(" GROUP BY t.repo_id, t.digest")
		return c.find(ctx, s, func(scan func(...any) error) error {
			var i foundImage
			if err := scan(&i.key.repo, &i.key.digest, &i.Tag); err != nil {
				return err
			}
			if to := at[i.key.repo]; to != nil {
				i.Repository = to.Name
				images = append(images, i)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for len(images) > 0 {
		some, err := c.imageDetails(ctx, r, images, detail)
		if err != nil {
			return err
		}
		for n := range some {
			at[images[n].key.repo].Newest = &some[n]
		}
		images = images[len(some):]
	}
	return nil
}
