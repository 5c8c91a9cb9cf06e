package metadata

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/sqldb"
)

// On PostgreSQL, too, each statement is a search in an index, by the statistics of
// a catalog with some thousand rows.
func TestQueryPlansOnPostgres(t *testing.T) {
	db := openShared(t)
	if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	fill(t, db, 5000, 2500)
	scans := regexp.MustCompile(`Seq Scan on \w+|\bSort\b`)
	for name, query := range statements(t) {
		if name == "sqlRecordKey" || name == "sqlUsed" || feedScans[name] != nil && name != "sqlFirstEvent" && name != "sqlLastEvent" {
			continue
		}
		if slices.Contains([]string{"sqlUploadKeys", "sqlMoving", "sqlInUse", "sqlEnd", "sqlNoMoved", "sqlUnmoved", "sqlSwitch", "sqlForget", "sqlMoveTotal", "sqlSweepEnded", "sqlCountRepos", "sqlMoveReviews", "sqlTokenKeys", "sqlExpireTokenKeys", "sqlDropTokenKeys", "sqlRevision", "sqlRevise", "sqlAnyWaiting"}, name) {
			continue // a handful of rows, or all of them once in the life of a store or of a repository
		}
		steps := planOnPostgres(t, db, query)
		if name == "sqlTellManifests" { // when a repository is restored
			steps = strings.ReplaceAll(steps, "Sort", "")
		}
		if name == "sqlTagsOf" { // those of one manifest, seldom more than a few
			steps = strings.ReplaceAll(steps, "Sort", "")
		}
		steps = strings.ReplaceAll(steps, "Seq Scan on repository_ids", "") // one row
		steps = strings.ReplaceAll(steps, "Seq Scan on scrub", "")          // one row
		steps = strings.ReplaceAll(steps, "Seq Scan on finishing", "")      // one row
		if found := scans.FindString(steps); found != "" {
			t.Errorf("%s: %s\n%s\n%s", name, found, query, steps)
		}
	}
	if got := planOnPostgres(t, db, "SELECT name FROM tags WHERE digest = $1"); !scans.MatchString(got) {
		t.Errorf("the plan of a scan is %s: this test looks for the wrong words", got)
	}
}

// planOnPostgres returns the plan of a statement that holds for any arguments.
func planOnPostgres(t *testing.T, db *sqldb.DB, query string, settings ...string) string {
	t.Helper()
	args := 0
	for _, m := range placeholder.FindAllStringSubmatch(query, -1) {
		var n int
		if _, err := fmt.Sscan(m[1], &n); err != nil {
			t.Fatal(err)
		}
		args = max(args, n)
	}
	explain := "EXPLAIN EXECUTE planned"
	if args > 0 {
		explain += "(" + strings.TrimSuffix(strings.Repeat("NULL,", args), ",") + ")"
	}
	var steps []string
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		steps = nil
		for _, s := range append(settings, "SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE planned AS "+query) {
			if _, err := tx.Exec(s); err != nil {
				return err
			}
		}
		err := tx.Run(sqldb.Statement{Text: explain, Row: func(scan func(dest ...any) error) error {
			var step string
			err := scan(&step)
			steps = append(steps, step)
			return err
		}})
		if err != nil {
			return err
		}
		_, err = tx.Exec("DEALLOCATE planned")
		return err
	})
	if err != nil {
		t.Fatalf("explaining %s: %v", query, err)
	}
	return strings.Join(steps, "\n")
}
