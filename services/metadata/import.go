package metadata

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry/sqldb"
)

// importer writes the rows of an export into a database of this process that has
// nothing in it, which it gives the schema that the export is of.
type importer struct {
	db     *sqldb.DB
	header *exportHeader // nil before the first line
	table  movedTable    // whose rows come
	batch  [][]any
	size   int
	rows   map[string]int64
	ended  bool
}

// errExport says that an export is not what a program wrote.
var errExport = errors.New("the export of a catalog is damaged")

// maxLine is more than any line of a part has.
const maxLine = 16 << 20

// part takes the next part.
func (m *importer) part(ctx context.Context, part []byte) error {
	gz, err := gzip.NewReader(bytes.NewReader(part))
	if err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	lines := bufio.NewScanner(gz)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := m.line(ctx, lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	return nil
}

func (m *importer) line(ctx context.Context, line []byte) error {
	switch {
	case m.ended:
		return fmt.Errorf("%w: there is more behind its end", errExport)
	case m.header == nil:
		return m.begin(ctx, line)
	case len(line) > 0 && line[0] == '[':
		return m.row(ctx, line)
	}
	var l struct {
		tableHeader
		exportEnd
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	if err := m.flush(ctx); err != nil {
		return err
	}
	if l.Table == "" {
		m.ended = true
		for table, n := range l.Rows {
			if m.rows[table] != n {
				return fmt.Errorf("%w: table %s has %d rows, not %d", errExport, table, m.rows[table], n)
			}
		}
		return nil
	}
	return m.begins(l.tableHeader)
}

// begin reads the first line.
func (m *importer) begin(ctx context.Context, line []byte) error {
	var h exportHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	if h.Format != exportFormat {
		return fmt.Errorf("the export has format %d, which this program does not know: use the one that made it, or a newer one", h.Format)
	}
	if err := m.db.MigrateTo(ctx, migrations, "migrations", h.Schema); err != nil {
		return err
	}
	m.header, m.rows = &h, map[string]int64{}
	return nil
}

// begins begins a table.
func (m *importer) begins(h tableHeader) error {
	m.table = movedTable{name: h.Table}
	for _, c := range h.Columns {
		name, kind, _ := strings.Cut(c, ":")
		if !isColumn(name) || len(kind) != 1 || !strings.Contains("tibn?", kind) {
			return fmt.Errorf("%w: %q is no column", errExport, c)
		}
		m.table.columns = append(m.table.columns, movedColumn{name, kind[0]})
	}
	if !isColumn(h.Table) || len(h.Columns) == 0 {
		return fmt.Errorf("%w: %q is no table", errExport, h.Table)
	}
	return nil
}

// isColumn reports whether a name may be a part of a statement.
func isColumn(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func (m *importer) row(ctx context.Context, line []byte) error {
	var values []json.RawMessage
	err := json.Unmarshal(line, &values)
	if err == nil && len(values) != len(m.table.columns) {
		err = fmt.Errorf("a row of %s has %d columns", m.table.name, len(values))
	}
	row := make([]any, len(values))
	for i := range values {
		if err == nil {
			row[i], err = columnValue(m.table.columns[i].kind, values[i])
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	m.batch = append(m.batch, row)
	m.size += len(line)
	m.rows[m.table.name]++
	if len(m.batch) == moveBatch || m.size > moveBatchBytes {
		return m.flush(ctx)
	}
	return nil
}

// columnValue returns the value of a column of a kind, nil for NULL.
func columnValue(kind byte, text json.RawMessage) (any, error) {
	if string(text) == "null" {
		return nil, nil
	}
	switch kind {
	case textKind:
		return decode[string](text)
	case intKind:
		return decode[int64](text)
	case boolKind:
		return decode[bool](text)
	}
	return decode[[]byte](text)
}

func decode[T any](text json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(text, &v)
	return v, err
}

func (m *importer) flush(ctx context.Context) error {
	if len(m.batch) == 0 {
		return nil
	}
	err := insertRows(ctx, m.db, m.table, m.batch)
	m.batch, m.size = nil, 0
	return err
}

// end is called behind the last part. It brings the schema up to date.
func (m *importer) end(ctx context.Context) error {
	if !m.ended {
		return fmt.Errorf("%w: it has no end", errExport)
	}
	if err := m.db.Migrate(ctx, migrations, "migrations"); err != nil || m.header.Swept == 0 {
		return err
	}
	return m.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(sqlEndSweep, sweepRows, m.header.Swept)
		return err
	})
}

// Import fills a database of this process that has nothing in it with the parts of
// an export. next returns them one after another, and then io.EOF.
func Import(ctx context.Context, db *sqldb.DB, next func() ([]byte, error)) error {
	_, err := importParts(ctx, db, next)
	return err
}

func importParts(ctx context.Context, db *sqldb.DB, next func() ([]byte, error)) (*exportHeader, error) {
	m := &importer{db: db}
	for {
		part, err := next()
		if err == io.EOF {
			return m.header, m.end(ctx)
		}
		if err == nil {
			err = m.part(ctx, part)
		}
		if err != nil {
			return nil, fmt.Errorf("importing a catalog: %w", err)
		}
	}
}

// insertRows writes rows in one transaction, by statements for 256, 128, 64 … rows,
// so that there are few texts of them.
func insertRows(ctx context.Context, db *sqldb.DB, t movedTable, rows [][]any) error {
	return db.Write(ctx, func(tx *sqldb.Tx) error {
		left := rows
		for n := moveBatch; n > 0; n /= 2 {
			for len(left) >= n {
				if _, err := tx.Exec(t.insert(n), slices.Concat(left[:n]...)...); err != nil {
					return err
				}
				left = left[n:]
			}
		}
		return nil
	})
}
