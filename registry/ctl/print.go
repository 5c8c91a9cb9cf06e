package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// printer writes an answer, as a table or as JSON. What goes wrong it keeps for
// flush.
type printer struct {
	out   io.Writer
	table *tabwriter.Writer
	json  *json.Encoder // nil for a table
	errs  []error
}

func newPrinter(out io.Writer, asJSON bool) *printer {
	p := &printer{out: out, table: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
	if asJSON {
		p.json = json.NewEncoder(out)
		p.json.SetEscapeHTML(false)
	}
	return p
}

func (p *printer) note(err error) {
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

// flush writes what is left and returns what went wrong.
func (p *printer) flush() error {
	p.note(p.table.Flush())
	return errors.Join(p.errs...)
}

// header writes the names of a table's columns.
func (p *printer) header(columns ...string) {
	if p.json == nil {
		p.cells(columns)
	}
}

// row writes an entry of a list.
func (p *printer) row(object any, columns ...string) {
	if p.json != nil {
		p.note(p.json.Encode(object))
		return
	}
	p.cells(columns)
}

// pairs writes one thing: names and values in turn.
func (p *printer) pairs(object any, pairs ...string) {
	if p.json != nil {
		p.note(p.json.Encode(object))
		return
	}
	for pair := range slices.Chunk(pairs, 2) {
		p.cells(pair)
	}
}

// text writes a line more about one thing, for people only.
func (p *printer) text(name, value string) {
	if p.json == nil {
		p.cells([]string{name, value})
	}
}

// done says what was done.
func (p *printer) done(object any, format string, args ...any) {
	if p.json != nil {
		p.note(p.json.Encode(object))
		return
	}
	_, err := fmt.Fprintf(p.out, format+"\n", args...)
	p.note(err)
}

// raw writes bytes as they are.
func (p *printer) raw(b []byte) error {
	_, err := p.out.Write(b)
	return err
}

func (p *printer) cells(columns []string) {
	safe := make([]string, len(columns))
	for i, c := range columns {
		safe[i] = printable(c)
	}
	_, err := fmt.Fprintln(p.table, strings.Join(safe, "\t"))
	p.note(err)
}

// printable returns s without what would move a terminal's cursor: annotations
// are whatever somebody pushed.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
