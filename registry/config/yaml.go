package config

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads one YAML document. Anchors, aliases and merge keys work.
func (p *parser) parseYAML(data []byte) (*node, error) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Error{Line: 1, Text: "the file is empty"}
	} else if err != nil {
		return nil, yamlError(err)
	}
	if err := dec.Decode(&more); err == nil {
		return nil, &Error{Line: more.Line, Text: "a second YAML document follows; one file holds one configuration"}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return p.yamlValue(&doc, 0)
}

// yamlError turns "yaml: line 3: found …" into an Error with that line.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1 // the parser names no line when it is the first
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, text = n, after
			}
		}
	}
	return &Error{Line: line, Text: "not valid YAML: " + text}
}

func (p *parser) yamlValue(y *yaml.Node, depth int) (*node, error) {
	if err := p.count(y.Line, depth); err != nil {
		return nil, err
	}
	n := &node{line: y.Line}
	switch y.Kind {
	case yaml.DocumentNode:
		return p.yamlValue(y.Content[0], depth)
	case yaml.AliasNode:
		return p.yamlValue(y.Alias, depth+1)
	case yaml.ScalarNode:
		n.kind, n.text = yamlScalar(y)
	case yaml.SequenceNode:
		n.kind = listNode
		for _, c := range y.Content {
			item, err := p.yamlValue(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case yaml.MappingNode:
		n.kind = objectNode
		return n, p.yamlMapping(n, y, depth)
	}
	return n, nil
}

func yamlScalar(y *yaml.Node) (kind, string) {
	switch y.ShortTag() {
	case "!!null":
		return nullNode, ""
	case "!!bool":
		return boolNode, strings.ToLower(y.Value)
	case "!!int", "!!float":
		return numberNode, strings.ReplaceAll(y.Value, "_", "")
	default: // strings, and what YAML alone would call a timestamp or binary
		return stringNode, y.Value
	}
}

// yamlMapping fills n. Keys of a merge ("<<") count only where n has none.
func (p *parser) yamlMapping(n *node, y *yaml.Node, depth int) error {
	var merged []entry
	lines := make(map[string]int) // of each key so far
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		value, err := p.yamlValue(v, depth+1)
		if err != nil {
			return err
		}
		if k.ShortTag() == "!!merge" {
			from := []*node{value}
			if value.kind == listNode {
				from = value.items
			}
			for _, m := range from {
				merged = append(merged, m.entries...)
			}
			continue
		}
		if k.Kind != yaml.ScalarNode {
			return &Error{Line: k.Line, Text: "a key must be a plain word"}
		}
		if first, twice := lines[k.Value]; twice {
			return &Error{Line: k.Line, Key: k.Value, Text: "given twice, first on line " + strconv.Itoa(first)}
		}
		lines[k.Value] = k.Line
		n.entries = append(n.entries, entry{key: k.Value, line: k.Line, value: value})
	}
	for _, e := range merged {
		if _, own := lines[e.key]; !own {
			lines[e.key] = e.line
			n.entries = append(n.entries, e)
		}
	}
	return nil
}
