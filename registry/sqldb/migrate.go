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
// version or the next. A database of a version that fsys doesn't know is an
// error: a newer program has made it.
func (db *DB) Migrate(ctx context.Context, fsys fs.FS, dir string) error {
	steps, err := readMigrations(fsys, dir)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	version := 0
	err = db.Write(ctx, func(tx *Tx) error {
		if err := tx.lockAll(); err != nil {
			return err
		}
		version, err = schemaVersion(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > len(steps) {
		return fmt.Errorf("the database has schema version %d, this program knows %d: run the newer program that made it", version, len(steps))
	}
	for n := version + 1; n <= len(steps); n++ {
		err := db.Write(ctx, func(tx *Tx) error { return db.migrateTo(tx, n, steps[n-1]) })
		if err != nil {
			return fmt.Errorf("migrating the schema to version %d: %w", n, err)
		}
	}
	return nil
}

func schemaVersion(tx *Tx) (int, error) {
	_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY, applied BIGINT NOT NULL)`)
	if err != nil {
		return 0, err
	}
	if _, shared := tx.s.(pipe); shared {
		for _, table := range []string{operationsTable, leasesTable} {
			if _, err := tx.Exec(table); err != nil {
				return 0, err
			}
		}
	}
	version := 0
	err = tx.QueryRow(`SELECT COALESCE(MAX(version), 0) FROM schema_versions`).Scan(&version)
	return version, err
}

// migrateTo applies step n, unless another process has done it meanwhile.
func (db *DB) migrateTo(tx *Tx, n int, statements []string) error {
	if err := tx.lockAll(); err != nil {
		return err
	}
	version, err := schemaVersion(tx)
	if err != nil || version >= n {
		return err
	}
	for _, s := range statements {
		if _, err := tx.Exec(db.dialect.schema(s)); err != nil {
			return fmt.Errorf("%s: %w", firstLine(s), err)
		}
	}
	_, err = tx.Exec(`INSERT INTO schema_versions (version, applied) VALUES ($1, $2)`, n, time.Now().UnixMicro())
	return err
}

// readMigrations returns the statements of each migration, in order.
func readMigrations(fsys fs.FS, dir string) ([][]string, error) {
	entries, err := fs.ReadDir(fsys, dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var steps [][]string
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), "_")
		if n, err := strconv.Atoi(number); !ok || err != nil || n != len(steps)+1 {
			return nil, fmt.Errorf("%s is not migration %d", e.Name(), len(steps)+1)
		}
		b, err := fs.ReadFile(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		steps = append(steps, splitStatements(string(b)))
	}
	return steps, nil
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
