//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A cell is one client with one kind of content. Either run proves that it
// works against a system, or none says why there can be no such cell.
type cell struct {
	client, content string
	proof           string // what run does and compares, for the table
	run             func(t *testing.T, s *System)
	none            string
}

// runMatrix runs every cell against every topology and returns the table.
func runMatrix(t *testing.T, topologies []Topology, cells []cell) string {
	passed := map[string]bool{}
	for _, topology := range topologies {
		t.Run(string(topology), func(t *testing.T) {
			s := Start(t, Options{Topology: topology})
			for _, c := range cells {
				if c.run == nil {
					continue
				}
				name := c.client + "/" + c.content
				passed[string(topology)+"/"+name] = t.Run(name, func(t *testing.T) { c.run(t, s) })
			}
		})
	}
	var b strings.Builder
	b.WriteString("| client | content |")
	for _, topology := range topologies {
		fmt.Fprintf(&b, " %s |", topology)
	}
	b.WriteString(" what is done, and compared |\n|---|---|" + strings.Repeat("---|", len(topologies)+1) + "\n")
	for _, c := range cells {
		fmt.Fprintf(&b, "| %s | %s |", c.client, c.content)
		for _, topology := range topologies {
			mark := "–"
			if c.run != nil {
				mark = "**fails**"
				if passed[string(topology)+"/"+c.client+"/"+c.content] {
					mark = "✓"
				}
			}
			fmt.Fprintf(&b, " %s |", mark)
		}
		if c.run == nil {
			fmt.Fprintf(&b, " none: %s |\n", c.none)
		} else {
			fmt.Fprintf(&b, " %s |\n", c.proof)
		}
	}
	return b.String()
}

// compareTable fails unless docs/clients.md shows a table that a stage of the Makefile
// writes; with $UPDATE it writes it there.
func compareTable(t *testing.T, name, stage, table string) {
	t.Helper()
	begin := fmt.Sprintf("<!-- %s: written by `make %s UPDATE=1` -->\n", name, stage)
	end := fmt.Sprintf("<!-- end of %s -->\n", name)
	path := filepath.Join(Root(t), "docs", "clients.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table %s", path, name)
	}
	if old == table {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Errorf("%s is not what the table %s shows now; `make %s UPDATE=1` writes it", path, name, stage)
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
