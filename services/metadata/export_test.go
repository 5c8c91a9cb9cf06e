package metadata

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// ReadManifest reads a manifest from the database, whatever the cache has.
func ReadManifest(c *Catalog, ctx context.Context, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	m, _, err := c.readManifest(ctx, repo, q)
	return m, err
}

// MovedColumns are the columns that a [Move] copies.
func MovedColumns() []string {
	var all []string
	for _, t := range movedTables {
		for _, c := range t.columns {
			all = append(all, t.name+"."+c.name)
		}
	}
	return all
}

// StaysBehind are the tables that belong to one database alone.
var StaysBehind = []string{"schema_versions", "schema_programs", "open_uploads", "moves", "moved_blobs", "events", "feed_readers", "outbox", "outbox_sinks", "sweeps", "strays", "scrub", "identity_state", "images", "image_configs"}

// RegisterReader registers a reader of the feed.
func RegisterReader(t *testing.T, c *Catalog, name string, at Position) {
	t.Helper()
	if err := c.register(t.Context(), name, at, ""); err != nil {
		t.Fatal(err)
	}
}

// HasReader reports whether a reader is registered.
func HasReader(t *testing.T, c *Catalog, name string) bool {
	t.Helper()
	_, _, err := c.reader(t.Context(), name)
	if err != nil && !errors.Is(err, errReaderLost) {
		t.Fatal(err)
	}
	return err == nil
}

// TrimFeed removes events that nobody will read, and all but keep of them.
func TrimFeed(t *testing.T, c *Catalog, keep int64) {
	t.Helper()
	if err := c.trimFeed(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
}

// CollectAll collects what is due, and sweeps first if asked to.
func CollectAll(ctx context.Context, c *Catalog, sweep bool) (Collected, error) {
	if sweep {
		if err := c.sweep(ctx); err != nil {
			return Collected{}, err
		}
	}
	return c.collectNow(ctx, time.Now().Add(time.Minute))
}

// SweepStrays looks for copies that nobody knows.
func SweepStrays(ctx context.Context, c *Catalog) error { return c.sweepStrays(ctx) }

// RetainAll applies the retention policies to all repositories.
func (c *Catalog) RetainAll(ctx context.Context) error { return c.retainAll(ctx) }

// Retain applies the retention policies to a repository that had an identity when it
// was listed.
func Retain(ctx context.Context, c *Catalog, id int64, repo registry.Name) (registry.RetentionReport, error) {
	return c.retain(ctx, id, repo)
}

// WriteJournal writes the journal as is done every ten seconds.
func WriteJournal(t *testing.T, c *Catalog) {
	t.Helper()
	if err := TryJournal(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TryJournal is WriteJournal, which may fail.
func TryJournal(ctx context.Context, c *Catalog) error { return c.journal.write(ctx, true) }

// PassOver takes due reviews for those of repositories that were deleted a moment
// ago.
func PassOver(ctx context.Context, c *Catalog) error {
	all, err := c.dueReviews(ctx, "", reviewBatch)
	if err != nil {
		return err
	}
	return c.passOver(ctx, all)
}

// Policy returns what holds for a pool.
func Policy(c *Catalog, p registry.Pool) GC { return c.policy(p) }

// VerifiedUntil returns until when what was verified then counts as verified.
func VerifiedUntil(c *Catalog, at int64) int64 { return c.verifiedUntil(at) }

// AuditKeep returns for how long audit events are kept.
func AuditKeep(c *Catalog) time.Duration { return time.Duration(c.auditKeep.Load()) }

// SetQuotaDelay sets how long after it was set a quota is charged. Call it before the
// policies change.
func SetQuotaDelay(c *Catalog, d time.Duration) { c.quotaDelay = d }
