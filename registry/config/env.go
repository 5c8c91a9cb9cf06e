package config

import "strings"

// expand replaces ${NAME} in every string value by that environment variable.
// $${ stands for a literal ${. A dollar sign before anything else is left as it
// is: regular expressions and passwords are full of them. Keys and numbers are
// never expanded, and what a variable holds is not expanded again.
func (p *parser) expand(n *node, at keyPath) {
	for i, item := range n.items {
		p.expand(item, at.index(i))
	}
	for _, e := range n.entries {
		p.expand(e.value, at.key(e.key))
	}
	if n.kind != stringNode || !strings.Contains(n.text, "${") {
		return
	}
	var out strings.Builder
	for rest := n.text; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '$' {
			out.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		out.WriteString(rest[:i])
		name, after, closed := strings.Cut(rest[i+2:], "}")
		if !closed || !isVariable(name) {
			p.fail(n.line, at, "${ must be followed by the name of an environment variable and }; write $${ for a literal ${")
			return
		}
		value, set := p.env(name)
		if !set {
			p.fail(n.line, at, "the environment variable %s is not set", name)
			return
		}
		out.WriteString(value)
		rest = after
	}
	n.text = out.String()
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
