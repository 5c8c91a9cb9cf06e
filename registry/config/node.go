package config

import (
	"fmt"
	"strconv"
	"strings"
)

// kind says what a node of the file is, before any key's type is looked at.
type kind int

const (
	nullNode kind = iota
	boolNode
	numberNode
	stringNode
	listNode
	objectNode
)

func (k kind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// node is one value of the file, from JSON or YAML alike.
type node struct {
	kind    kind
	line    int
	text    string  // scalars: the value as written, strings without quotes
	items   []*node // lists
	entries []entry // objects, in file order
}

type entry struct {
	key   string
	line  int
	value *node
}

// find returns the entry with this key in any letter case, or nil.
func (n *node) find(key string) *node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if strings.EqualFold(e.key, key) {
			return e.value
		}
	}
	return nil
}

// Limits on hostile or broken files. A YAML file can name itself over and over
// through aliases, so it is the expanded tree that is counted.
const (
	maxBytes = 4 << 20
	maxDepth = 100
	maxNodes = 200_000
)

// keyPath names a place in the file: keys as written and list indexes.
type keyPath []string

func (p keyPath) String() string { return strings.Join(p, "") }

// key returns p with a further key, quoted when it could be misread.
func (p keyPath) key(k string) keyPath {
	if k == "" || strings.ContainsAny(k, ". \"[]") {
		k = strconv.Quote(k)
	}
	if len(p) > 0 {
		k = "." + k
	}
	return append(p[:len(p):len(p)], k)
}

func (p keyPath) index(i int) keyPath {
	return append(p[:len(p):len(p)], "["+strconv.Itoa(i)+"]")
}

// Error is one thing wrong with a configuration file.
type Error struct {
	File string // as given to Load; empty when the Config came from no file
	Line int    // 1-based; 0 when unknown
	Key  string // such as storage.gcDelay; empty when the file can't be read at all
	Text string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		b.WriteByte(':')
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:", e.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Text)
	return b.String()
}

// Warning is something the operator should know but that stops nothing.
type Warning struct {
	Line int    // 1-based; 0 when it is not about one line
	Key  string // empty when it is about several keys, which Text then names
	Text string
}

func (w Warning) String() string {
	s := w.Text
	if w.Key != "" {
		s = w.Key + ": " + s
	}
	if w.Line > 0 {
		s = fmt.Sprintf("line %d: %s", w.Line, s)
	}
	return s
}
