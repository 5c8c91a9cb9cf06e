package metadata

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// statements returns the constants of the package whose names begin with sql,
// by name, and one text of each that is made by a function.
func statements(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{
		"sqlLastBelow":        sqlLastBelow("9223372036854775807"),
		"sqlEventsAfter":      sqlEventsAfter("9223372036854775807"),
		"sqlOutboxAfter":      sqlOutboxAfter("9223372036854775807"),
		"sqlKnown(links)":     sqlKnown("links", 4),
		"sqlKnown(manifests)": sqlKnown("manifests", 4),
		"sqlAddReferences(4)": sqlAddReferences(4),
		"sqlClaimBlobs":       sqlClaimBlobs(4),
		"sqlClaimManifests":   sqlClaimManifests(4),
		"sqlFetchedBlobs":     sqlFetchedBlobs(4),
		"sqlReferencesOf":     sqlReferencesOf(4),
		"sqlRequire":          sqlRequire(4),
		"sqlUnused(sum)":      sqlUnused(sumBlobs, 4),
		"sqlUnused(set)":      sqlUnused(unusedBlobs, 4),
	}
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, id := range v.Names {
				if !strings.HasPrefix(id.Name, "sql") || i >= len(v.Values) {
					continue
				}
				lit, ok := v.Values[i].(*ast.BasicLit)
				if !ok {
					t.Fatalf("%s is not a literal", id.Name)
				}
				if all[id.Name], err = strconv.Unquote(lit.Value); err != nil {
					t.Fatal(err)
				}
			}
			return true
		})
	}
	if len(all) < 40 {
		t.Fatalf("found only %d statements", len(all))
	}
	return all
}

// feedScans are the steps of the feed's statements that read a handful of rows:
// the readers, the first event, the last.
var feedScans = map[string][]string{
	"sqlSlowest":     {"SCAN feed_readers", "USE TEMP B-TREE FOR ORDER BY"},
	"sqlDropReaders": {"SCAN feed_readers"},
	"sqlFirstEvent":  {"SCAN events"},
	"sqlUsed": { // up to the first row
		"SCAN feed_readers", "SCAN upload_keys", "SCAN blobs USING COVERING INDEX blobs_by_verified", "SCAN repositories USING COVERING INDEX sqlite_autoindex_repositories_2",
	},
	"sqlSchemaVersion": {"SCAN schema_versions"},
	"sqlLastEvent":     {"SCAN events"},
}

// Each statement is a search in an index, whatever the size of the store, and
// rows come in order. Only upload_keys has a handful of rows.
func TestQueryPlans(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	scan := regexp.MustCompile(`^SCAN |USE TEMP B-TREE|AUTOMATIC`)
	allowed := map[string][]string{
		"sqlUploadKeys":     {"SCAN upload_keys", "USE TEMP B-TREE FOR ORDER BY"},
		"sqlKeepFirst":      {"SCAN CONSTANT ROW"},
		"sqlTellManifests":  {"USE TEMP B-TREE FOR ORDER BY"}, // when a repository is restored
		"sqlQueued":         {"SCAN queued"},
		"sqlIsInhabited":    {"SCAN CONSTANT ROW"},
		"sqlIsKnown":        {"SCAN CONSTANT ROW"},
		"sqlIsDeleted":      {"SCAN CONSTANT ROW"},
		"sqlFsckHistory":    {"SCAN n"},                                                                      // one row
		"sqlCountRepos":     {"SCAN r USING COVERING INDEX sqlite_autoindex_repositories_2", "SCAN counted"}, // when a repository is made, up to the limit
		"sqlMoving":         {"SCAN moves"},                                                                  // one row at most
		"sqlAllDamage":      {"SCAN CONSTANT ROW"},
		"sqlDiscardRefused": {"SCAN CONSTANT ROW"},
		"sqlQuotaNames":     {"SCAN quotas"}, // as many as the config file has, when the catalog is opened
		"sqlFsckUsed":       {"SCAN CONSTANT ROW"},
		"sqlMaintenance":    {"SCAN maintenance"}, // a hundred rows at most
		// A handful of keys, and an index of disabled users alone.
		"sqlTokenKeys":       {"SCAN token_keys", "USE TEMP B-TREE FOR ORDER BY"},
		"sqlExpireTokenKeys": {"SCAN token_keys"},
		"sqlDisabledUsers":   {"SCAN users USING INDEX users_disabled", "SCAN users USING COVERING INDEX users_disabled"},
		"sqlPins":            {"SCAN cache_pins"}, // a thousand rows at most
		// One row, a thousand, or what is counted of those that wait.
		"sqlOutboxLast":    {"SCAN outbox"},
		"sqlOutboxBound":   {"SCAN outbox"},
		"sqlOutboxOldest":  {"SCAN outbox"},
		"sqlOutboxWaiting": {"SCAN few"},
		"sqlSinks":         {"SCAN outbox_sinks"},
		"sqlTrusted":       {"SCAN trusted"}, // a hundred rows at most
		"sqlInUse": { // up to the first row
			"SCAN repositories USING COVERING INDEX sqlite_autoindex_repositories_2", "SCAN blobs USING COVERING INDEX blobs_by_verified", "SCAN upload_keys",
		},

		"sqlAddReferences(4)": {"SCAN 4-ROW VALUES CLAUSE"},
		"sqlSearchRepos":      {"SCAN repositories"}, // all names, to ask who may read them
		"sqlAnyWaiting":       {"SCAN images USING COVERING INDEX images_waiting", "SCAN w", "SCAN (subquery-1)"},
	}
	maps.Copy(allowed, feedScans)
	for name, query := range statements(t) {
		for _, step := range plan(t, db, query) {
			ok := !scan.MatchString(step)
			for _, a := range allowed[name] {
				ok = ok || step == a
			}
			if !ok {
				t.Errorf("%s: %s\n%s", name, step, query)
			}
		}
	}
}

func TestQueryPlanOfAScan(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	if got := plan(t, db, "SELECT name FROM tags WHERE digest = $1"); len(got) != 1 || !strings.HasPrefix(got[0], "SCAN tags") {
		t.Errorf("the plan of a scan is %q: TestQueryPlans looks for the wrong words", got)
	}
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// plan returns the steps that the database takes to run query.
func plan(t *testing.T, db *sqldb.DB, query string) []string {
	t.Helper()
	var args []any
	for _, m := range placeholder.FindAllStringSubmatch(query, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		for len(args) < n {
			args = append(args, nil)
		}
	}
	var steps []string
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		steps = nil
		rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				return err
			}
			steps = append(steps, step)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatalf("explaining %s: %v", query, err)
	}
	return steps
}
