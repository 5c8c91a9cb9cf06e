package metadata

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// An export is a sequence of parts, each of them lines of JSON, compressed with
// gzip. The first line is an exportHeader; a line with a tableHeader says what
// the lines behind it are, up to the next: arrays with the columns of a row. The
// last line is an exportEnd. Whatever the database, it is the same.
type (
	exportHeader struct {
		Format int      `json:"format"` // exportFormat
		Schema int      `json:"schema"` // the number of the last migration
		At     int64    `json:"at"`     // when it was begun, microseconds since 1970
		Feed   Position `json:"feed"`   // all events up to this one are in it
		// Swept is when a sweep ended last that has queued what nothing needs: the
		// export's reviews are all that there should be. 0: none has.
		Swept int64 `json:"swept,omitempty"`
	}
	tableHeader struct {
		Table   string   `json:"table"`
		Columns []string `json:"columns"` // "name:kind", see the kinds of columns
	}
	exportEnd struct {
		Rows map[string]int64 `json:"rows"` // of each table
	}
)

const exportFormat = 1

// partSize is how many bytes of lines a part has at most, unless it is one line.
const partSize = 1 << 20

// partWriter cuts lines into parts.
type partWriter struct {
	part  func([]byte) error
	whole bool // all lines are one part
	lines bytes.Buffer
	out   bytes.Buffer
	gz    *gzip.Writer
}

func newPartWriter(part func([]byte) error) *partWriter {
	gz, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels only
	return &partWriter{part: part, gz: gz}
}

// line adds a line.
func (w *partWriter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing a line of an export: %w", err)
	}
	if !w.whole && w.lines.Len() > 0 && w.lines.Len()+len(b) > partSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.lines.Write(b)
	w.lines.WriteByte('\n')
	return nil
}

// flush ends the part, if there is something in it.
func (w *partWriter) flush() error {
	if w.lines.Len() == 0 {
		return nil
	}
	w.out.Reset()
	w.gz.Reset(&w.out)
	_, err := w.gz.Write(w.lines.Bytes())
	if err = errors.Join(err, w.gz.Close()); err != nil {
		return err
	}
	w.lines.Reset()
	return w.part(w.out.Bytes())
}

// Export implements [registry.Exporter].
func (c *Catalog) Export(ctx context.Context, part func([]byte) error) error {
	_, err := c.export(ctx, part)
	return err
}

// export hands out everything, and returns the place in the feed that it is a copy
// of.
func (c *Catalog) export(ctx context.Context, part func([]byte) error) (at Position, err error) {
	w := newPartWriter(part)
	err = c.db.Snapshot(ctx, func(s *sqldb.Snapshot) error {
		h := exportHeader{Format: exportFormat, At: c.now()}
		err := s.One(c.feed.last, nil, &h.Feed.Tx, &h.Feed.Seq)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		at = h.Feed
		if err := s.One(sqlSchemaVersion, nil, &h.Schema); err != nil {
			return err
		}
		if err := s.One(sqlSweepEnded, []any{sweepRows}, &h.Swept); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := w.line(h); err != nil {
			return err
		}
		end := exportEnd{Rows: map[string]int64{}}
		for _, t := range movedTables {
			n, err := exportTable(ctx, s, t, w)
			if err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
			end.Rows[t.name] = n
		}
		return w.line(end)
	})
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return Position{}, fmt.Errorf("exporting the catalog: %w", err)
	}
	return at, nil
}

const sqlSchemaVersion = `SELECT COALESCE(MAX(version), 0) FROM schema_versions`

// exportTable writes the rows of a table and returns how many there are.
func exportTable(ctx context.Context, s *sqldb.Snapshot, t movedTable, w *partWriter) (n int64, err error) {
	head := tableHeader{Table: t.name}
	for _, c := range t.columns {
		head.Columns = append(head.Columns, c.name+":"+string(c.kind))
	}
	if err := w.line(head); err != nil {
		return 0, err
	}
	err = s.Each(ctx, t.selectAfter(false), nil, func(scan func(...any) error) error {
		row, err := scanColumns(scanner(scan), t.columns)
		if err != nil {
			return err
		}
		n++
		return w.line(row)
	})
	return n, err
}

// scanner is a function that scans a row.
type scanner func(...any) error

// Scan calls it.
func (s scanner) Scan(dest ...any) error { return s(dest...) }

var _ registry.Exporter = (*Catalog)(nil)

// readHeader reads the header of an export from its first part.
func readHeader(part []byte) (h exportHeader, err error) {
	gz, err := gzip.NewReader(bytes.NewReader(part))
	if err == nil {
		err = json.NewDecoder(gz).Decode(&h)
	}
	if err == nil && h.Format != exportFormat {
		err = fmt.Errorf("format %d is not known to this program", h.Format)
	}
	if err != nil {
		return exportHeader{}, fmt.Errorf("reading the header of an export: %w", err)
	}
	return h, nil
}
