package metadata

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// searchReader is the name, among the readers of the feed, of who fills the tables
// images and image_configs.
const searchReader = "search"

// On a shared database one process at a time does that, for a term.
const searchTerm = 30 * time.Second

// How often the feed is looked at. Who tells an event says so before it can be read:
// then it is looked for again soon.
const (
	searchSoon   = 5 * time.Millisecond
	searchLater  = time.Second
	searchSeldom = 30 * time.Second // where no other process tells events
)

const (
	searchEvents   = 200 // at a time
	searchBackfill = 200 // manifests at a time
)

// searchState is what the reader keeps with its place in the feed: how far it has
// come with the manifests that were there before it. nil: it has seen all of them.
type searchState struct {
	Backfill *backfill `json:"backfill,omitempty"`
}

type backfill struct {
	Repo   int64  `json:"repo"`
	Digest string `json:"digest"` // hex, stored form
}

// searchIndex fills the tables. It is for one goroutine.
type searchIndex struct {
	c     *Catalog
	blobs registry.BlobReader // nil: no config is read
	lease *sqldb.Lease
}

// keepSearch fills the tables that a search needs until ctx ends, or, if nobody wants
// to search, lets the feed go on without it.
func (c *Catalog) keepSearch(ctx context.Context) {
	if !c.opt.Search {
		if _, _, err := c.reader(ctx, searchReader); err == nil {
			if err := c.forgetReader(ctx, searchReader); err != nil && ctx.Err() == nil {
				c.log.Warn("ending the index of searches", "error", err)
			}
		}
		return
	}
	x := &searchIndex{c: c, lease: c.db.Lease(searchReader)}
	x.blobs, _ = c.reaper.(registry.BlobReader)
	idle := searchSeldom
	if c.db.Dialect().Shared != nil {
		idle = searchLater
	}
	wait, soon := idle, true
	timer := time.NewTimer(0)
	defer timer.Stop()
	fails := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.feed.any:
			if !soon { // who tells many must not put it off
				wait, soon = searchSoon, true
				timer.Reset(wait)
			}
			continue
		case <-timer.C:
			soon = false
		}
		more, err := x.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if fails%60 == 0 {
				c.log.Warn("reading what searches need: they don't show what is new; it is tried again", "error", err)
			}
			fails++
			wait = searchLater
		case more:
			fails, wait = 0, 0
		default:
			fails, wait = 0, min(max(2*wait, searchSoon), idle)
		}
		timer.Reset(wait)
	}
}

// forgetReader removes a registration.
func (c *Catalog) forgetReader(ctx context.Context, name string) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		return tx.Queue(sqlForgetReader, name)
	})
}

// step reads a batch of events and of older manifests, and reports whether there may
// be more.
func (x *searchIndex) step(ctx context.Context) (more bool, err error) {
	at, text, err := x.c.reader(ctx, searchReader)
	lost := errors.Is(err, errReaderLost)
	if err != nil && !lost {
		return false, err
	}
	var state searchState
	var events []Event
	if !lost {
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			lost = true
		} else if events, err = x.c.Events(ctx, at, searchEvents); err != nil {
			return false, err
		}
	}
	if !lost && len(events) == 0 && state.Backfill == nil {
		return false, nil
	}
	taken, err := x.lease.Take(ctx, searchTerm)
	if err != nil || !taken {
		return false, err
	}
	if lost {
		return true, x.begin(ctx)
	}
	if err := x.follow(ctx, events); err != nil {
		return false, err
	}
	if n := len(events); n > 0 {
		at = events[n-1].Position
	}
	if state.Backfill != nil {
		if err := x.backfill(ctx, &state); err != nil {
			return false, err
		}
	}
	b, err := json.Marshal(state)
	if err != nil {
		return false, fmt.Errorf("recording how far the feed was read: %w", err)
	}
	err = x.c.advance(ctx, searchReader, at, string(b))
	return len(events) == searchEvents || state.Backfill != nil, err
}

// begin registers the reader at the end of the feed, with all manifests before it.
func (x *searchIndex) begin(ctx context.Context) error {
	at, err := x.c.position(ctx, x.c.feed.last)
	if err != nil {
		return fmt.Errorf("looking for the end of the feed: %w", err)
	}
	b, err := json.Marshal(searchState{Backfill: &backfill{}})
	if err != nil {
		return fmt.Errorf("recording how far the feed was read: %w", err)
	}
	return x.c.register(ctx, searchReader, at, string(b))
}

const (
	sqlBackfillImages = `SELECT repo_id, digest FROM manifests WHERE (repo_id, digest) > ($1, $2) ORDER BY repo_id, digest LIMIT $3`
	sqlNoImage        = `DELETE FROM images WHERE repo_id = $1 AND digest = $2`
	sqlNoImageConfig  = `DELETE FROM image_configs WHERE repo_id = $1 AND digest = $2`
	sqlSomeImages     = `SELECT digest FROM images WHERE repo_id = $1 ORDER BY digest LIMIT $2`
	sqlWaiting        = `SELECT repo_id, digest FROM images WHERE waits = $1 AND repo_id = $2 LIMIT 200`
	sqlAnyWaiting     = `SELECT COUNT(*) FROM (SELECT 1 FROM images WHERE waits IS NOT NULL LIMIT 1) w`
)

// backfill reads a page of older manifests.
func (x *searchIndex) backfill(ctx context.Context, state *searchState) error {
	from, err := hex.DecodeString(state.Backfill.Digest)
	if err != nil {
		return fmt.Errorf("reading how far the index of searches is: %w", err)
	}
	page, err := readPage(ctx, x.c.db, sqlBackfillImages, []any{state.Backfill.Repo, from, searchBackfill}, scanImageKey)
	if err != nil {
		return fmt.Errorf("listing manifests: %w", err)
	}
	if err := x.index(ctx, page); err != nil {
		return err
	}
	if len(page) < searchBackfill {
		state.Backfill = nil
		return nil
	}
	last := page[len(page)-1]
	*state.Backfill = backfill{last.repo, hex.EncodeToString([]byte(last.digest))}
	return nil
}

func scanImageKey(rows *sqldb.Rows, k *imageKey) error { return rows.Scan(&k.repo, &k.digest) }

// follow does what events ask for.
func (x *searchIndex) follow(ctx context.Context, events []Event) error {
	var stored, gone, linked []imageKey
	for _, e := range events {
		k := imageKey{repo: e.RepoID}
		if e.Digest != "" {
			k.digest = string(packKnown(e.Digest))
		}
		switch e.Kind {
		case ManifestStored:
			stored = append(stored, k)
		case ManifestDeleted:
			gone = append(gone, k)
		case RepositoryDeleted:
			if err := x.forgetRepo(ctx, e.RepoID); err != nil {
				return err
			}
		case BlobLinked:
			linked = append(linked, k)
		}
	}
	waiting, err := x.waiting(ctx, linked)
	if err != nil {
		return err
	}
	if err := x.index(ctx, slices.Concat(stored, waiting)); err != nil {
		return err
	}
	return x.forget(ctx, gone)
}

// waiting returns the images whose configs came now, to their repository: those of others
// wait for another event.
func (x *searchIndex) waiting(ctx context.Context, linked []imageKey) ([]imageKey, error) {
	var n int
	if len(linked) == 0 {
		return nil, nil
	}
	if err := x.c.db.QueryRow(ctx, sqlAnyWaiting).Scan(&n); err != nil || n == 0 {
		return nil, err
	}
	var all []imageKey
	for _, k := range linked {
		page, err := readPage(ctx, x.c.db, sqlWaiting, []any{[]byte(k.digest), k.repo}, scanImageKey)
		if err != nil {
			return nil, fmt.Errorf("looking for images that wait for a config: %w", err)
		}
		all = append(all, page...)
	}
	return all, nil
}

// forget removes what is known of manifests that are not there any more.
func (x *searchIndex) forget(ctx context.Context, gone []imageKey) error {
	if len(gone) == 0 {
		return nil
	}
	still := make([]*image, 0, len(gone))
	for _, k := range gone {
		i, err := x.read(ctx, k)
		if err != nil {
			return err
		}
		if i.gone { // and was not pushed again
			still = append(still, i)
		}
	}
	return x.write(ctx, still)
}

// forgetRepo removes what is known of a repository's manifests, some at a time.
func (x *searchIndex) forgetRepo(ctx context.Context, id int64) error {
	for {
		page, err := readPage(ctx, x.c.db, sqlSomeImages, []any{id, searchBackfill}, func(rows *sqldb.Rows, digest *string) error { return rows.Scan(digest) })
		if err != nil {
			return fmt.Errorf("forgetting a repository's images: %w", err)
		}
		var gone []*image
		for _, d := range page {
			gone = append(gone, &image{key: imageKey{id, d}, gone: true})
		}
		if err := x.write(ctx, gone); err != nil || len(page) < searchBackfill {
			return err
		}
	}
}
