package metadata

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlPins     = `SELECT pattern, reason, actor, since FROM cache_pins ORDER BY pattern LIMIT $1`
	sqlSetPin   = `INSERT INTO cache_pins (pattern, reason, actor, since) VALUES ($1, $2, $3, $4) ON CONFLICT (pattern) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, since = excluded.since`
	sqlClearPin = `DELETE FROM cache_pins WHERE pattern = $1`

	sqlListedBy  = `SELECT manifest FROM manifest_references WHERE repo_id = $1 AND digest = $2 AND is_manifest LIMIT $3`
	sqlSubjectOf = `SELECT subject FROM manifests WHERE repo_id = $1 AND digest = $2 AND subject IS NOT NULL`
)

// byCacheConfig is why what the config file pins stays.
const byCacheConfig = "storage.cache.pins"

// maxAround is how many manifests are asked for a pin that holds another.
const maxAround = 100

// pin is a compiled [registry.Pin].
type pin struct {
	registry.Pin
	repos  *glob.Pattern
	tags   *glob.Pattern   // nil: all
	digest registry.Digest // "": any
}

// parsePin compiles a pattern.
func parsePin(text string) (p pin, err error) {
	p.Pattern = text
	repos, digest, byDigest := strings.Cut(text, "@")
	if byDigest {
		if p.digest, err = registry.ParseDigest(digest); err != nil {
			return pin{}, fmt.Errorf("%q is no digest", digest)
		}
	} else if name, tags, byTag := strings.Cut(text, ":"); byTag {
		repos = name
		if p.tags, err = glob.Compile(tags); err != nil {
			return pin{}, fmt.Errorf("tags: %w", err)
		}
	}
	p.repos, err = glob.Compile(repos)
	return p, err
}

// pins returns what stays: what the config file says first.
func (c *Catalog) pins(ctx context.Context) ([]pin, error) {
	all := slices.Clone(c.policies.Load().pinned)
	_, err := c.page(ctx, sqlPins, []any{registry.MaxPins}, func(rows *sqldb.Rows) error {
		var r registry.Pin
		if err := rows.Scan(&r.Pattern, &r.Reason, &r.Actor, &r.Since); err != nil {
			return err
		}
		p, err := parsePin(r.Pattern)
		p.Pin = r
		all = append(all, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading pins: %w", err)
	}
	return all, nil
}

// pinnedBy returns the pattern that keeps a manifest, "" if none does: by its own
// tags and digest, by those of the indexes that list it, or by its subject's.
func (c *Catalog) pinnedBy(ctx context.Context, pins []pin, id int64, repo registry.Name, digest []byte) (string, error) {
	var some []pin
	for _, p := range pins {
		if !p.repos.Match(string(repo)) {
			continue
		}
		if p.tags == nil && p.digest == "" {
			return p.Pattern, nil
		}
		some = append(some, p)
	}
	if len(some) == 0 {
		return "", nil
	}
	around, seen := [][]byte{digest}, map[string]bool{string(digest): true}
	for i := 0; i < len(around); i++ {
		d, err := unpack(around[i])
		if err != nil {
			return "", err
		}
		tags, err := c.tagsNow(ctx, id, around[i])
		if err != nil {
			return "", err
		}
		for _, p := range some {
			if p.digest == d || p.tags != nil && slices.ContainsFunc(tags, func(t registry.Tag) bool { return p.tags.Match(string(t)) }) {
				return p.Pattern, nil
			}
		}
		for query, args := range map[string][]any{sqlListedBy: {id, around[i], maxAround}, sqlSubjectOf: {id, around[i]}} {
			_, err := c.page(ctx, query, args, func(rows *sqldb.Rows) error {
				var next []byte
				err := rows.Scan(&next)
				if err == nil && !seen[string(next)] && len(around) < maxAround {
					seen[string(next)] = true
					around = append(around, next)
				}
				return err
			})
			if err != nil {
				return "", fmt.Errorf("reading what keeps a manifest: %w", err)
			}
		}
	}
	return "", nil
}

// Pins implements [registry.Cache].
func (c *Catalog) Pins(ctx context.Context, a registry.Actor) ([]registry.Pin, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return nil, err
	}
	pins, err := c.pins(ctx)
	all := make([]registry.Pin, len(pins))
	for i, p := range pins {
		all[i] = p.Pin
	}
	return all, err
}

// SetPin implements [registry.Cache].
func (c *Catalog) SetPin(ctx context.Context, a registry.Actor, p registry.Pin) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	if _, err := parsePin(p.Pattern); err != nil {
		return registry.ErrParameterInvalid.With("pattern: %v", err)
	}
	if len(p.Reason) > registry.MaxReason {
		return registry.ErrTooLarge.With("a reason has at most %d bytes", registry.MaxReason)
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "cache pins"}); err != nil {
			return err
		}
		others := 0
		err := tx.Run(sqldb.Statement{Text: sqlPins, Args: []any{registry.MaxPins}, Row: func(scan func(dest ...any) error) error {
			var x registry.Pin
			err := scan(&x.Pattern, &x.Reason, &x.Actor, &x.Since)
			if x.Pattern != p.Pattern {
				others++
			}
			return err
		}})
		if err != nil {
			return fmt.Errorf("reading pins: %w", err)
		}
		if others >= registry.MaxPins {
			return registry.ErrTooLarge.With("there are %d pins already", others)
		}
		return tx.Queue(sqlSetPin, p.Pattern, p.Reason, a.ID, c.now())
	})
}

// ClearPin implements [registry.Cache].
func (c *Catalog) ClearPin(ctx context.Context, a registry.Actor, pattern string) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "cache pins"}); err != nil {
			return err
		}
		return tx.Queue(sqlClearPin, pattern)
	})
}
