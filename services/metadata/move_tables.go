package metadata

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry/sqldb"
)

// movedTable is a table whose rows move from one database to another.
type movedTable struct {
	name    string
	key     int // the first columns are the primary key, so many of them
	columns []movedColumn
}

type movedColumn struct {
	name string
	kind byte // a letter of the functions below
}

// Kinds of columns.
const (
	textKind  = 't'
	intKind   = 'i'
	bytesKind = 'b'
	maybeKind = 'n' // bytes, or NULL if there are none: a driver can't tell
	boolKind  = '?'
)

func textColumn(name string) movedColumn  { return movedColumn{name, textKind} }
func intColumn(name string) movedColumn   { return movedColumn{name, intKind} }
func bytesColumn(name string) movedColumn { return movedColumn{name, bytesKind} }
func maybeColumn(name string) movedColumn { return movedColumn{name, maybeKind} }
func boolColumn(name string) movedColumn  { return movedColumn{name, boolKind} }

// movedTables are all tables with content, those that others refer to first.
var movedTables = []movedTable{
	{"repositories", 1, []movedColumn{textColumn("name"), intColumn("id"), intColumn("created")}},
	{"manifests", 2, []movedColumn{
		intColumn("repo_id"), bytesColumn("digest"), textColumn("media_type"), intColumn("size"), intColumn("pushed"),
		textColumn("artifact_type"), maybeColumn("subject"), textColumn("annotations"), bytesColumn("payload"), intColumn("damaged"),
	}},
	{"manifest_references", 3, []movedColumn{
		intColumn("repo_id"), bytesColumn("manifest"), bytesColumn("digest"), boolColumn("is_manifest"), boolColumn("required"),
	}},
	{"tags", 2, []movedColumn{intColumn("repo_id"), textColumn("name"), bytesColumn("digest")}},
	{"tag_history", 3, []movedColumn{
		intColumn("repo_id"), textColumn("name"), intColumn("number"), intColumn("at"), textColumn("actor"), maybeColumn("digest"),
	}},
	{"blobs", 2, []movedColumn{
		textColumn("pool"), bytesColumn("digest"), intColumn("size"), textColumn("locator"), intColumn("state"),
		intColumn("epoch"), intColumn("lease_until"), intColumn("created"), maybeColumn("inline"),
		intColumn("verified_at"), intColumn("damaged"), textColumn("problem"), intColumn("cached"),
	}},
	{"links", 2, []movedColumn{intColumn("repo_id"), bytesColumn("digest"), textColumn("pool")}},
	{"garbage", 3, []movedColumn{
		textColumn("pool"), bytesColumn("digest"), textColumn("locator"), intColumn("size"), intColumn("due"), intColumn("attempts"),
	}},
	{"adoptions", 1, []movedColumn{
		textColumn("repo"), textColumn("pool"), intColumn("state"), textColumn("stamp"), textColumn("hash"),
		intColumn("problem_count"), textColumn("problems"), intColumn("updated"),
	}},
	{"finishing", 1, []movedColumn{
		intColumn("one"), intColumn("requested"), textColumn("actor"), intColumn("ended"), intColumn("blobs"), intColumn("bytes"), intColumn("repositories"),
		intColumn("kept"), intColumn("removed"), intColumn("problem_count"), textColumn("problems"), textColumn("failure"),
	}},
	{"adopted_manifests", 2, []movedColumn{textColumn("repo"), bytesColumn("digest")}},
	{"adopted_tags", 2, []movedColumn{textColumn("repo"), textColumn("name"), bytesColumn("digest")}},
	{"reviews", 4, []movedColumn{
		intColumn("repo_id"), bytesColumn("digest"), intColumn("kind"), textColumn("pool"), intColumn("due"), intColumn("lease"), intColumn("epoch"),
	}},
	{"trash", 2, []movedColumn{
		intColumn("repo_id"), bytesColumn("digest"), textColumn("media_type"), intColumn("pushed"), bytesColumn("payload"),
		textColumn("tags"), intColumn("deleted"), intColumn("until"), textColumn("actor"),
	}},
	{"trash_references", 3, []movedColumn{
		intColumn("repo_id"), bytesColumn("manifest"), bytesColumn("digest"), boolColumn("is_manifest"), boolColumn("required"),
	}},
	{"deleted_repositories", 1, []movedColumn{
		intColumn("id"), textColumn("name"), intColumn("created"), intColumn("deleted"), intColumn("until"), textColumn("actor"),
	}},
	{"repository_ids", 1, []movedColumn{intColumn("one"), intColumn("last")}},
	{"quotas", 1, []movedColumn{textColumn("name"), intColumn("used")}},
	{"quota_repositories", 2, []movedColumn{textColumn("quota"), intColumn("repo_id")}},
	{"quota_content", 2, []movedColumn{textColumn("quota"), bytesColumn("digest"), intColumn("refs"), intColumn("size")}},
	{"maintenance", 1, []movedColumn{textColumn("repositories"), textColumn("reason"), textColumn("actor"), intColumn("since")}},
	{"pulls", 3, []movedColumn{
		intColumn("repo_id"), bytesColumn("digest"), textColumn("tag"), textColumn("actor"), intColumn("at"), intColumn("times"),
	}},
	{"users", 1, []movedColumn{
		textColumn("id"), textColumn("origin"), intColumn("service"), intColumn("disabled"), textColumn("member_of"), textColumn("note"),
		intColumn("created"), intColumn("seen"),
	}},
	{"credentials", 1, []movedColumn{
		bytesColumn("hash"), textColumn("kind"), textColumn("id"), textColumn("owner"), textColumn("label"), textColumn("scopes"),
		textColumn("claims"), textColumn("agent"), intColumn("created"), intColumn("expires"), intColumn("used"),
	}},
	{"token_keys", 1, []movedColumn{textColumn("id"), bytesColumn("seed"), intColumn("created"), intColumn("until")}},
	{"cached_manifests", 2, []movedColumn{
		intColumn("repo_id"), bytesColumn("digest"), textColumn("pool"), textColumn("upstream"), intColumn("fetched"),
		intColumn("used"), intColumn("cost"), intColumn("rank"),
	}},
	{"cache_pins", 1, []movedColumn{textColumn("pattern"), textColumn("reason"), textColumn("actor"), intColumn("since")}},
	{"audit", 1, []movedColumn{
		textColumn("id"), intColumn("at"), textColumn("actor"), textColumn("source"), textColumn("action"), textColumn("object"),
		intColumn("status"), textColumn("result"), textColumn("request"),
	}},
	{"trusted", 1, []movedColumn{
		textColumn("id"), textColumn("tool"), textColumn("store"), textColumn("pem"), textColumn("actor"), intColumn("since"),
	}},
	{"preferences", 3, []movedColumn{textColumn("actor"), intColumn("kind"), intColumn("repo_id"), intColumn("since")}},
	{"upload_keys", 1, []movedColumn{textColumn("id"), bytesColumn("secret"), intColumn("created")}},
}

func (t movedTable) names(columns []movedColumn, suffix string) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name + suffix
	}
	return strings.Join(names, ", ")
}

// selectAfter is the query for all rows behind a key, or all rows at all.
func (t movedTable) selectAfter(some bool) string {
	where := ""
	if some {
		where = fmt.Sprintf(" WHERE (%s) > (%s)", t.names(t.columns[:t.key], ""), sqldb.Placeholders(1, t.key))
	}
	return fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s", t.names(t.columns, ""), t.name, where, t.names(t.columns[:t.key], ""))
}

func (t movedTable) selectLast() string {
	key := t.columns[:t.key]
	return fmt.Sprintf("SELECT %s FROM %s ORDER BY %s LIMIT 1", t.names(key, ""), t.name, t.names(key, " DESC"))
}

func (t movedTable) insert(rows int) string {
	values := make([]string, rows)
	for i := range values {
		values[i] = "(" + sqldb.Placeholders(1+i*len(t.columns), len(t.columns)) + ")"
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", t.name, t.names(t.columns, ""), strings.Join(values, ", "))
}

// scanColumns reads columns of a row. NULL is nil.
func scanColumns(row interface{ Scan(...any) error }, columns []movedColumn) ([]any, error) {
	dest := make([]any, len(columns))
	for i, c := range columns {
		switch c.kind {
		case textKind:
			dest[i] = new(sql.NullString)
		case intKind:
			dest[i] = new(sql.NullInt64)
		case bytesKind, maybeKind:
			dest[i] = new([]byte)
		case boolKind:
			dest[i] = new(bool)
		}
	}
	if err := row.Scan(dest...); err != nil {
		return nil, err
	}
	for i, d := range dest {
		dest[i] = nil
		switch v := d.(type) {
		case *sql.NullString:
			if v.Valid {
				dest[i] = v.String
			}
		case *sql.NullInt64:
			if v.Valid {
				dest[i] = v.Int64
			}
		case *[]byte:
			switch {
			case len(*v) > 0:
				dest[i] = *v
			case columns[i].kind == bytesKind:
				dest[i] = []byte{}
			}
		case *bool:
			dest[i] = *v
		}
	}
	return dest, nil
}

// A batch of rows is written at once: so many, or so many bytes of them.
const (
	moveBatch      = 256
	moveBatchBytes = 4 << 20
)

// copyTable copies the rows that the target doesn't have. They go in the order of
// the key and each batch is one transaction, so the last row at the target tells
// how far an earlier run came.
func (m *Move) copyTable(ctx context.Context, t movedTable) error {
	last, err := scanColumns(m.To.QueryRow(ctx, t.selectLast()), t.columns[:t.key])
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	rows, err := m.From.Query(ctx, t.selectAfter(last != nil), last...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var batch [][]any
	size := 0
	for rows.Next() {
		row, err := scanColumns(rows, t.columns)
		if err != nil {
			return err
		}
		batch = append(batch, row)
		size += rowSize(row)
		if len(batch) == moveBatch || size >= moveBatchBytes {
			if err := m.insert(ctx, t, batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return m.insert(ctx, t, batch)
}

func rowSize(row []any) int {
	n := 0
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// insert writes rows to the target in one transaction.
func (m *Move) insert(ctx context.Context, t movedTable, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	return insertRows(ctx, m.To, t, rows)
}

// errDiffers says that source and target are not equal.
var errDiffers = errors.New("the target differs from the source, which was changed between two runs: give up with --abandon and begin again")

// compareTable reads both tables and returns an error unless they are equal.
func (m *Move) compareTable(ctx context.Context, t movedTable) error {
	from, err := m.From.Query(ctx, t.selectAfter(false))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := m.To.Query(ctx, t.selectAfter(false))
	if err != nil {
		return err
	}
	defer to.Close()
	for {
		more := from.Next()
		if more != to.Next() {
			return errors.Join(errDiffers, from.Err(), to.Err())
		}
		if !more {
			return errors.Join(from.Err(), to.Err())
		}
		want, err := scanColumns(from, t.columns)
		if err != nil {
			return err
		}
		got, err := scanColumns(to, t.columns)
		if err != nil {
			return err
		}
		if !slices.EqualFunc(want, got, equalValue) {
			return fmt.Errorf("%w: row %v", errDiffers, want[:t.key])
		}
	}
}

func equalValue(a, b any) bool {
	x, isBytes := a.([]byte)
	y, both := b.([]byte)
	if isBytes && both {
		return bytes.Equal(x, y)
	}
	return isBytes == both && a == b
}
