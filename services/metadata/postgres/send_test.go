package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
)

// TestSendRepetitive runs many statements of few texts: rows and counts are those of
// each, one that fails undoes all, and what a table is like may change in between.
func TestSendRepetitive(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.DSN(server.Database(t))
	openCatalog(t, dsn, metadata.Options{}) // makes the tables that each transaction needs
	db := openDatabase(t, dsn)
	write := func(all ...sqldb.Statement) error {
		return db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil {
				return err
			}
			return tx.Run(all...)
		})
	}
	if err := write(sqldb.Statement{Text: `CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT NOT NULL, part BYTEA)`}); err != nil {
		t.Fatal(err)
	}
	var all []sqldb.Statement
	for i := range 20 {
		var part any
		if i%2 == 0 {
			part = []byte{byte(i)}
		}
		all = append(all, sqldb.Statement{Text: `INSERT INTO things (id, name, part) VALUES ($1, $2, $3)`, Args: []any{int64(i), fmt.Sprint("name", i), part}})
	}
	changed := make([]int64, 20)
	for i := range 20 { // every other one changes something
		all = append(all, sqldb.Statement{Text: `UPDATE things SET name = name || '!' WHERE id = $1 AND part IS NOT NULL`, Args: []any{int64(i)}, Changed: func(n int64) { changed[i] = n }})
	}
	got := make([]string, 22)
	for i := range got { // of the last two there are no rows
		all = append(all, sqldb.Statement{Text: `SELECT name, part FROM things WHERE id = $1`, Args: []any{int64(i)}, Row: func(scan func(...any) error) error {
			var name string
			var part []byte
			err := scan(&name, &part)
			got[i] = fmt.Sprintf("%s %x", name, part)
			return err
		}})
	}
	if err := write(all...); err != nil {
		t.Fatal(err)
	}
	want := make([]string, 22)
	for i := range 20 {
		want[i] = fmt.Sprintf("name%d ", i)
		if i%2 == 0 {
			want[i] = fmt.Sprintf("name%d! %02x", i, i)
		}
		if n := int64((i + 1) % 2); changed[i] != n {
			t.Errorf("statement %d changed %d rows, want %d", i, changed[i], n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// The tenth is there already.
	all = all[:0]
	for i := range 20 {
		all = append(all, sqldb.Statement{Text: `INSERT INTO things (id, name, part) VALUES ($1, $2, $3)`, Args: []any{int64(29 - i), "x", nil}})
	}
	if err := write(all...); err == nil {
		t.Error("what is there already is added: no error")
	}
	count := func(want int64) {
		t.Helper()
		var n int64
		if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM things`).Scan(&n); err != nil || n != want {
			t.Errorf("%d rows, %v: want %d", n, err, want)
		}
	}
	count(20)
	if err := write(sqldb.Statement{Text: `ALTER TABLE things ALTER COLUMN part TYPE TEXT USING encode(part, 'hex')`}); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Args = []any{int64(100 + i), "x", "text"}
	}
	// What is known of the statement is wrong now, which its first use finds out.
	if err := write(all...); err != nil {
		if err := write(all...); err != nil {
			t.Fatal(err)
		}
	}
	count(40)
	for i := range got {
		got[i] = ""
	}
	all = all[:0]
	for i := range 20 {
		all = append(all, sqldb.Statement{Text: `SELECT name FROM things WHERE id = $1`, Args: []any{int64(i)}, Row: func(scan func(...any) error) error {
			got[i] = ""
			return scan(&got[i])
		}})
	}
	if err := db.Reads(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	if got[2] != "name2!" || got[19] != "name19" {
		t.Errorf("read %q", got)
	}
}
