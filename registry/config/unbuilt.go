package config

import (
	"errors"
	"fmt"
	"strings"
)

// Unbuilt compares the keys the file uses with what is built. Keys that are
// refused make an error that names each, unless accept lists them or a key above
// them; keys that are warned about or not needed make one warning each kind.
// accept takes paths as in [Key.Path]. A Config that came from no file uses no
// keys.
func (c *Config) Unbuilt(accept []string) ([]Warning, error) {
	known := make(map[string]bool)
	for _, k := range Keys() {
		known[strings.ToLower(k.Path)] = true
	}
	for _, a := range accept {
		if !known[strings.ToLower(a)] {
			return nil, fmt.Errorf("--accept-unbuilt %s: there is no such key", a)
		}
	}
	if c.file.root == nil {
		return nil, nil
	}
	u := &usage{}
	u.object(schema(), c.file.root, nil, Built)
	var errs []error
	var warned, unneeded, accepted []string
	for _, use := range u.uses {
		switch {
		case use.status == Warned:
			warned = append(warned, use.String())
		case use.status == Unneeded:
			unneeded = append(unneeded, use.String()+": "+strings.TrimSuffix(use.spec.Doc, "."))
		case use.accepted(accept):
			accepted = append(accepted, use.String())
		default:
			errs = append(errs, &Error{File: c.file.name, Line: use.line, Key: use.at.String(),
				Text: fmt.Sprintf("is not built yet, and starting without it could open, expose or lose something; "+
					"remove it, or start with --accept-unbuilt %s", use.spec.Path)})
		}
	}
	var warnings []Warning
	for _, w := range []struct {
		text string
		uses []string
	}{
		{"accepted by --accept-unbuilt and ignored: ", accepted},
		{"not built yet and ignored: ", warned},
		{"not needed here and ignored: ", unneeded},
	} {
		if len(w.uses) > 0 {
			warnings = append(warnings, Warning{Text: w.text + strings.Join(w.uses, "; ")})
		}
	}
	return warnings, errors.Join(errs...)
}

// use is a key of the file that asks for its feature.
type use struct {
	spec   *spec
	status Status
	at     keyPath
	line   int
}

func (u use) String() string { return fmt.Sprintf("%s (line %d)", u.at, u.line) }

func (u use) accepted(accept []string) bool {
	p := strings.ToLower(u.spec.Path)
	for _, a := range accept {
		rest, ok := strings.CutPrefix(p, strings.ToLower(a))
		if ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// usage collects the keys that ask for something which is not built.
type usage struct{ uses []use }

// object visits the keys of an object. told is the status that was already
// reported for a key above: its keys are of interest only if theirs differs.
func (u *usage) object(s *spec, n *node, at keyPath, told Status) {
	for _, e := range n.entries {
		if key := s.keys[strings.ToLower(e.key)]; key != nil {
			u.visit(key, e.value, at.key(e.key), e.line, told)
		}
	}
}

func (u *usage) visit(s *spec, n *node, at keyPath, line int, told Status) {
	if n.kind == nullNode || s.when == never || off(s, n) {
		return
	}
	if s.Type == Object || s.Type == Map || s.Type == List {
		if (s.when != byValue) && s.Status != told && s.Status != Built && (n.kind != listNode || len(n.items) > 0) {
			u.uses = append(u.uses, use{spec: s, status: s.Status, at: at, line: line})
			told = s.Status
		}
		u.inside(s, n, at, told)
		return
	}
	if s.Status != Built && s.Status != told && (s.Status != Refused || asks(s, n)) {
		u.uses = append(u.uses, use{spec: s, status: s.Status, at: at, line: line})
	}
}

func (u *usage) inside(s *spec, n *node, at keyPath, told Status) {
	switch s.Type {
	case Object:
		u.object(s, n, at, told)
	case Map:
		for _, e := range n.entries {
			u.visit(s.elem, e.value, at.key(e.key), e.line, told)
		}
	case List:
		if n.kind == objectNode {
			u.object(s.elem, n, at, told)
		}
		for i, item := range n.items {
			u.object(s.elem, item, at.index(i), told)
		}
	}
}

// off reports whether a block is turned off by its enable key.
func off(s *spec, n *node) bool {
	if s.Type != Object {
		return false
	}
	enable := n.find("enable")
	if enable == nil || enable.kind == nullNode {
		return s.when == whenEnabled
	}
	on, _ := weakBool(enable)
	return !on
}

// asks reports whether a scalar or list has a value that wants its feature.
func asks(s *spec, n *node) bool {
	switch s.Type {
	case Bool:
		on, _ := weakBool(n)
		return on
	case Int, Float:
		i, ok := weakInt(n)
		return !ok || i != 0
	case Duration:
		d, ok := weakDuration(n)
		return !ok || d != 0
	case DriverT:
		name, _ := free(n).(map[string]any)["name"].(string)
		return len(n.entries) > 0 && name != "local"
	case SecretsT:
		return len(n.entries) > 0
	}
	return n.text != "" || len(n.items) > 0
}
