package sqldb

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Migrate brings the schema up to date. The migrations are the files of dir in
// fsys named NUMBER_TEXT.sql, numbered from 1 without gaps; a statement ends
// with a semicolon at the end of a line. Each file and the record that it was
// applied are one transaction, so a kill at any moment leaves the schema of one
// version or the next.
//
// A newer program may have brought the schema to a version that fsys doesn't
// know. Each migration says how old a program may be to work with what it makes:
// a line "-- oldest: N" names the highest migration that such a program knows.
// Without it that is the migration itself. A program that is older than one of
// the migrations wants is refused; others leave the schema as it is. So a
// migration that only adds lets programs of both versions serve side by side.
func (db *DB) Migrate(ctx context.Context, fsys fs.FS, dir string) error {
	return db.MigrateTo(ctx, fsys, dir, 0)
}

// MigrateTo is Migrate up to a version, 0 for the last one: for rows of an older
// schema, which the migrations behind it change.
func (db *DB) MigrateTo(ctx context.Context, fsys fs.FS, dir string, last int) error {
	steps, err := readMigrations(fsys, dir)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	if last > len(steps) {
		return fmt.Errorf("rows of schema version %d are wanted, this program knows %d: use the newer program that made them", last, len(steps))
	}
	if last > 0 {
		steps = steps[:last]
	}
	version := 0
	err = db.Write(ctx, func(tx *Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		if version, err = db.schemaVersion(tx); err != nil || version <= len(steps) {
			return err
		}
		return mayUse(tx, version, len(steps))
	})
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	for n := version + 1; n <= len(steps); n++ {
		err := db.Write(ctx, func(tx *Tx) error { return db.migrateTo(tx, n, steps[n-1]) })
		if err != nil {
			return fmt.Errorf("migrating the schema to version %d: %w", n, err)
		}
	}
	return nil
}

// CreateSchema makes a schema by the given statement, which does nothing if there is one.
// The database need not have been migrated: whoever comes first makes what writes need.
func (db *DB) CreateSchema(ctx context.Context, statement string) error {
	return db.Write(ctx, func(tx *Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		if _, err := db.schemaVersion(tx); err != nil {
			return err
		}
		_, err := tx.Exec(statement)
		return err
	})
}

// schemaTables are the tables that each schema has.
var schemaTables = []string{
	`CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY, applied BIGINT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS schema_programs (version BIGINT NOT NULL PRIMARY KEY, oldest BIGINT NOT NULL)`,
}

func (db *DB) schemaVersion(tx *Tx) (int, error) {
	tables := schemaTables
	if db.dialect.Shared != nil {
		tables = append(tables[:len(tables):len(tables)], operationsTable, leasesTable)
	}
	for _, table := range tables {
		if _, err := tx.Exec(db.dialect.schema(table)); err != nil {
			return 0, err
		}
	}
	version := 0
	err := tx.QueryRow(`SELECT COALESCE(MAX(version), 0) FROM schema_versions`).Scan(&version)
	return version, err
}

// mayUse returns an error if a program that knows less than the schema's version
// can't work with it.
func mayUse(tx *Tx, version, known int) error {
	stated, oldest := 0, 0
	err := tx.QueryRow(`SELECT COUNT(*), COALESCE(MAX(oldest), 0) FROM schema_programs WHERE version > $1`, known).Scan(&stated, &oldest)
	if err != nil || stated == version-known && oldest <= known {
		return err
	}
	return fmt.Errorf("the database has schema version %d, this program knows %d: run the newer program that made it", version, known)
}

// migrateTo applies step n, unless another process has done it meanwhile.
func (db *DB) migrateTo(tx *Tx, n int, step migration) error {
	if err := tx.LockAll(); err != nil {
		return err
	}
	version, err := db.schemaVersion(tx)
	if err != nil || version >= n {
		return err
	}
	for _, s := range step.statements {
		if _, err := tx.Exec(db.dialect.schema(s)); err != nil {
			return fmt.Errorf("%s: %w", firstLine(s), err)
		}
	}
	if _, err := tx.Exec(`INSERT INTO schema_programs (version, oldest) VALUES ($1, $2)`, n, step.oldest); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO schema_versions (version, applied) VALUES ($1, $2)`, n, time.Now().UnixMicro())
	return err
}

// migration is a step from one version of the schema to the next.
type migration struct {
	statements []string
	oldest     int // a program may work with it if it knows so many migrations
}

// maxMigrations is the highest number a migration may have.
const maxMigrations = 9999

// readMigrations returns the migrations in order. A number that was never used is
// a migration that does nothing; it must not be used later, as databases may be
// behind it already.
func readMigrations(fsys fs.FS, dir string) ([]migration, error) {
	entries, err := fs.ReadDir(fsys, dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var steps []migration
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), "_")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n <= len(steps) || n > maxMigrations {
			return nil, fmt.Errorf("%s is not migration %d", e.Name(), len(steps)+1)
		}
		for len(steps) < n-1 {
			steps = append(steps, migration{oldest: 1})
		}
		b, err := fs.ReadFile(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		oldest, err := oldestProgram(string(b), len(steps)+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		steps = append(steps, migration{splitStatements(string(b)), oldest})
	}
	return steps, nil
}

// oldestProgram returns what migration n says of the programs that may use what
// it makes.
func oldestProgram(script string, n int) (int, error) {
	for line := range strings.Lines(script) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "-- oldest:")
		if !ok {
			continue
		}
		oldest, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || oldest < 1 || oldest > n {
			return 0, fmt.Errorf("%q is not a number from 1 to %d", strings.TrimSpace(line), n)
		}
		return oldest, nil
	}
	return n, nil
}

// splitStatements splits a script at the lines that end with a semicolon and
// drops lines that are comments.
func splitStatements(script string) []string {
	var all []string
	var cur strings.Builder
	for line := range strings.Lines(script) {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "--") {
			continue
		}
		cur.WriteString(line)
		if strings.HasSuffix(text, ";") {
			all = append(all, cur.String())
			cur.Reset()
		}
	}
	if cur.Len() > 0 {
		all = append(all, cur.String())
	}
	return all
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
