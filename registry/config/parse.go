package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// parser turns the bytes of a file into a tree. It reads nothing but those.
type parser struct {
	file     string
	env      func(string) (string, bool)
	nodes    int
	warnings []Warning
	errs     []error
}

// count bounds the tree; called once for each node.
func (p *parser) count(line, depth int) error {
	p.nodes++
	switch {
	case depth > maxDepth:
		return &Error{Line: line, Text: fmt.Sprintf("nested more than %d deep", maxDepth)}
	case p.nodes > maxNodes:
		return &Error{Line: line, Text: fmt.Sprintf("more than %d values", maxNodes)}
	}
	return nil
}

// tree parses data in the format its file name tells.
func (p *parser) tree(data []byte) (*node, error) {
	if len(data) > maxBytes {
		return nil, &Error{Text: fmt.Sprintf("larger than %d bytes", maxBytes)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark
	var root *node
	var err error
	switch ext := strings.ToLower(filepath.Ext(p.file)); ext {
	case ".json", ".jsonc":
		root, err = p.parseJSON(data)
	case ".yaml", ".yml":
		root, err = p.parseYAML(data)
	case ".toml", ".hcl", ".ini", ".env", ".properties":
		return nil, &Error{Text: ext[1:] + " files are not supported: write the same keys as JSON or YAML"}
	default:
		root, err = p.anyFormat(data)
	}
	switch {
	case err != nil:
		return nil, err
	case root.kind == nullNode || root.kind == objectNode && len(root.entries) == 0:
		return nil, &Error{Line: root.line, Text: "the file holds no keys"}
	case root.kind != objectNode:
		return nil, &Error{Line: root.line, Text: "the file must hold an object, not " + root.kind.String()}
	}
	p.dedupe(root, nil)
	p.expand(root, nil)
	return root, nil
}

// anyFormat tries each format. What begins like JSON is reported as JSON.
func (p *parser) anyFormat(data []byte) (*node, error) {
	root, jsonErr := p.parseJSON(data)
	if jsonErr == nil {
		return root, nil
	}
	p.nodes = 0
	root, yamlErr := p.parseYAML(data)
	if yamlErr == nil {
		return root, nil
	}
	if bare, err := blankComments(data); err == nil && bytes.HasPrefix(bytes.TrimSpace(bare), []byte("{")) {
		return nil, jsonErr
	}
	return nil, yamlErr
}

// dedupe leaves one entry for each key of each object. The same key twice is
// legal JSON and zot takes the last, so we do, with a warning. Two spellings of
// one key have no order in zot, so that is an error.
func (p *parser) dedupe(n *node, at keyPath) {
	for i, item := range n.items {
		p.dedupe(item, at.index(i))
	}
	kept := make([]entry, 0, len(n.entries))
	index := make(map[string]int, len(n.entries))
	for _, e := range n.entries {
		here := at.key(e.key)
		p.dedupe(e.value, here)
		i, twice := index[strings.ToLower(e.key)]
		switch {
		case !twice:
			index[strings.ToLower(e.key)] = len(kept)
			kept = append(kept, e)
		case kept[i].key == e.key:
			p.warnings = append(p.warnings, Warning{Line: e.line, Key: here.String(),
				Text: fmt.Sprintf("given twice; the one on line %d is ignored", kept[i].line)})
			kept[i] = e
		default:
			p.fail(e.line, here, "given twice: line %d has it as %q, and letter case does not count", kept[i].line, kept[i].key)
		}
	}
	if n.kind == objectNode {
		n.entries = kept
	}
}

// maxErrors bounds what is said about one file.
const maxErrors = 20

func (p *parser) fail(line int, at keyPath, format string, args ...any) {
	if len(p.errs) < maxErrors {
		p.errs = append(p.errs, &Error{File: p.file, Line: line, Key: at.String(), Text: fmt.Sprintf(format, args...)})
	}
}
