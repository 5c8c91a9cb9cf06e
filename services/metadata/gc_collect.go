package metadata

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// collectTime is how long one call of [Catalog.Collect] works.
const collectTime = 5 * time.Second

// Collect removes what may go now, whatever the time of day.
func (c *Catalog) Collect(ctx context.Context, a registry.Actor) (registry.Collection, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return registry.Collection{}, err
	}
	if c.reaper == nil {
		return registry.Collection{}, registry.ErrUnsupported.With("this process removes nothing")
	}
	if hold := c.clock.hold(c.opt.Now()); hold > 0 {
		return registry.Collection{}, registry.ErrUnavailable.With("the clock was set forward: nothing is removed for %v", hold.Round(time.Second))
	}
	done, err := c.collectNow(ctx, time.Now().Add(collectTime))
	if err != nil {
		return registry.Collection{}, err
	}
	answer := registry.Collection{
		Reviews: done.Reviews, Manifests: done.Manifests, Links: done.Links, Blobs: done.Blobs, Repositories: done.Repositories, Bytes: done.Bytes,
	}
	for _, p := range c.pools() {
		if !c.collects(p) {
			continue
		}
		var next *int64
		if err := c.db.QueryRow(ctx, sqlNextReview, string(p)).Scan(&next); err != nil {
			return answer, fmt.Errorf("looking for the next review: %w", err)
		}
		if next != nil && (answer.Next == 0 || *next < answer.Next) {
			answer.Next = *next
		}
	}
	answer.More = answer.Next != 0 && answer.Next <= c.now()
	return answer, nil
}

// Rows of the plan come repository by repository.
const sqlPlan = `
	SELECT v.repo_id, v.digest, v.kind, v.pool, v.due, r.name, g.name, g.until, m.size, b.size, b.state,
		(SELECT 1 FROM tags t WHERE t.repo_id = m.repo_id AND t.digest = m.digest LIMIT 1) IS NOT NULL,
		(SELECT 1 FROM manifest_references f WHERE f.repo_id = v.repo_id AND f.digest = v.digest LIMIT 1) IS NOT NULL,
		(SELECT 1 FROM manifests s WHERE s.repo_id = m.repo_id AND s.digest = m.subject LIMIT 1) IS NOT NULL,
		m.subject IS NOT NULL,
		(SELECT 1 FROM links k WHERE k.digest = b.digest AND k.pool = b.pool LIMIT 1) IS NOT NULL,
		(SELECT 1 FROM manifests a WHERE a.repo_id = r.id LIMIT 1) IS NOT NULL OR (SELECT 1 FROM links a WHERE a.repo_id = r.id LIMIT 1) IS NOT NULL,
		l.digest IS NOT NULL
	FROM reviews v
	LEFT JOIN repositories r ON r.id = v.repo_id
	LEFT JOIN deleted_repositories g ON g.id = v.repo_id
	LEFT JOIN manifests m ON v.kind = 1 AND m.repo_id = v.repo_id AND m.digest = v.digest
	LEFT JOIN links l ON v.kind = 2 AND l.repo_id = v.repo_id AND l.digest = v.digest
	LEFT JOIN blobs b ON b.pool = COALESCE(l.pool, v.pool) AND b.digest = v.digest
	WHERE (v.repo_id, v.digest, v.kind, v.pool) > ($1, $2, $3, $4) ORDER BY v.repo_id, v.digest, v.kind, v.pool LIMIT $5`

// planPage is how many reviews one call of Plan looks at.
const planPage = 1000

// planned is a review and what is known of its object.
type planned struct {
	due
	at                               int64
	name, gone                       sql.NullString
	until                            sql.NullInt64 // when what is gone can't be restored any more, 0 if it was given up
	manifestSize, blobSize, state    sql.NullInt64
	tagged, needed, subject, attests bool
	linkedBlob, inhabited, linked    bool
}

// Plan lists what will go.
func (c *Catalog) Plan(ctx context.Context, a registry.Actor, p registry.Page[registry.Cursor]) (registry.List[registry.Doomed], error) {
	none := registry.List[registry.Doomed]{}
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	last, err := parsePlanCursor(p.After)
	if err != nil {
		return none, err
	}
	var list registry.List[registry.Doomed]
	for !list.More && len(list.Items) < limit {
		page, err := c.planPage(ctx, last)
		if err != nil {
			return none, err
		}
		for i, r := range page {
			last = r.due
			d, goes := r.doomed()
			if goes && !c.policy(d.Pool).Off {
				list.Items = append(list.Items, d)
			}
			if len(list.Items) == limit {
				list.More = i+1 < len(page) || len(page) == planPage
				return list, nil
			}
		}
		if len(page) < planPage {
			return list, nil
		}
	}
	return list, nil
}

func (c *Catalog) planPage(ctx context.Context, last due) ([]planned, error) {
	rows, err := c.db.Query(ctx, sqlPlan, last.repoID, last.packed, last.kind, string(last.pool), planPage)
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	defer rows.Close()
	var all []planned
	for rows.Next() {
		p, err := scanPlanned(rows)
		if err != nil {
			return nil, fmt.Errorf("planning: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

func scanPlanned(rows *sqldb.Rows) (p planned, err error) {
	err = rows.Scan(&p.repoID, &p.packed, &p.kind, &p.pool, &p.at, &p.name, &p.gone, &p.until, &p.manifestSize, &p.blobSize, &p.state,
		&p.tagged, &p.needed, &p.subject, &p.attests, &p.linkedBlob, &p.inhabited, &p.linked)
	p.packed = notNull(p.packed)
	return p, err
}

// doomed says whether the review will find that its object may go, and why.
func (p planned) doomed() (d registry.Doomed, goes bool) {
	d = registry.Doomed{Cursor: p.cursor(), Repo: registry.Name(p.name.String), Pool: p.pool, At: p.at}
	if len(p.packed) > 0 {
		d.Digest, _ = unpack(p.packed) // "" if it is malformed, which fsck tells of
	}
	switch p.kind {
	case reviewManifest:
		d.Kind, d.Size = registry.DoomedManifest, p.manifestSize.Int64
		if d.Reason = "no tag points to it and no index lists it"; p.attests {
			d.Reason += ", and what it is about has gone"
		}
		return d, p.manifestSize.Valid && p.name.Valid && !p.tagged && !p.needed && !p.subject
	case reviewLink:
		d.Kind, d.Size = registry.DoomedLink, p.blobSize.Int64
		d.Reason = "no manifest of the repository needs it"
		return d, p.linked && p.name.Valid && !p.needed
	case reviewBlob:
		d.Kind, d.Size, d.Repo = registry.DoomedBlob, p.blobSize.Int64, ""
		if d.Reason = "no repository has it"; p.state.Int64 == blobCondemned {
			d.Reason += "; it is condemned already"
		}
		return d, p.blobSize.Valid && !p.linkedBlob
	case reviewRepository:
		d.Kind, d.Reason = registry.DoomedRepository, "there is nothing in it"
		if p.gone.Valid {
			d.Repo, d.Reason = registry.Name(p.gone.String), "it was deleted, and can be restored until then"
			if p.until.Int64 == 0 {
				d.Reason = "it was deleted, and given up"
			}
			return d, true
		}
		return d, p.name.Valid && !p.inhabited
	}
	return d, false
}

func (d due) cursor() registry.Cursor {
	return registry.Cursor(fmt.Sprintf("%d.%s.%d.%s", d.repoID, hex.EncodeToString(d.packed), d.kind, d.pool))
}

func parsePlanCursor(c registry.Cursor) (d due, err error) {
	d.packed, d.repoID = noDigest, -1
	if c == "" {
		return d, nil
	}
	parts := strings.SplitN(string(c), ".", 4)
	if len(parts) != 4 {
		return d, registry.ErrPageInvalid.With("no such cursor")
	}
	d.pool = registry.Pool(parts[3])
	var err1, err2, err3 error
	d.repoID, err1 = strconv.ParseInt(parts[0], 10, 64)
	d.packed, err2 = hex.DecodeString(parts[1])
	d.kind, err3 = strconv.Atoi(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return d, registry.ErrPageInvalid.With("no such cursor")
	}
	return d, nil
}
