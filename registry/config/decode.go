package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// defaulter is a block or list item whose absent keys are not zero.
type defaulter interface{ setDefaults() }

// decode fills v from n as s says, and notes everything that is wrong.
func (p *parser) decode(s *spec, n *node, v reflect.Value, at keyPath) {
	if n.kind == nullNode { // as if the key were absent
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.Type {
	case Object:
		p.decodeObject(s, n, v, at)
	case Map:
		p.decodeMap(s.elem, n, v, at)
	case SecretsT:
		p.decodeMap(&spec{Key: Key{Type: SecretT}}, n, v, at)
	case List:
		p.decodeList(s, n, v, at)
	case Strings, Addrs:
		p.decodeStrings(s, n, v, at)
	case DriverT:
		if n.kind != objectNode {
			p.mismatch(s, n, at)
			return
		}
		v.Set(reflect.ValueOf(Driver(free(n).(map[string]any))))
	default:
		p.decodeScalar(s, n, v, at)
	}
}

func (p *parser) decodeObject(s *spec, n *node, v reflect.Value, at keyPath) {
	if n.kind != objectNode {
		p.mismatch(s, n, at)
		return
	}
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.setDefaults()
	}
	fields := fieldsOf(v.Type())
	for _, e := range n.entries {
		here := at.key(e.key)
		key := s.keys[strings.ToLower(e.key)]
		switch {
		case key != nil:
			p.decode(key, e.value, v.FieldByIndex(fields[strings.ToLower(e.key)]), here)
		case s.lax:
			p.warnings = append(p.warnings, Warning{Line: e.line, Key: here.String(), Text: "unknown key, ignored"})
		default:
			p.fail(e.line, here, "unknown key; %s", s.suggest(e.key))
		}
	}
}

// decodeMap keeps the names in lower case, as zot does.
func (p *parser) decodeMap(elem *spec, n *node, v reflect.Value, at keyPath) {
	if n.kind != objectNode {
		p.mismatch(&spec{Key: Key{Type: Map}}, n, at)
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		item := reflect.New(v.Type().Elem()).Elem()
		if d, ok := item.Addr().Interface().(defaulter); ok {
			d.setDefaults() // for a null item
		}
		p.decode(elem, e.value, item, at.key(e.key))
		v.SetMapIndex(reflect.ValueOf(strings.ToLower(e.key)), item)
	}
}

func (p *parser) decodeList(s *spec, n *node, v reflect.Value, at keyPath) {
	items := n.items
	if n.kind != listNode {
		items = []*node{n} // one object is a list of one
	}
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		if item.kind == nullNode {
			p.fail(item.line, at.index(i), "must be an object, not nothing")
			continue
		}
		p.decode(s.elem, item, v.Index(i), at.index(i))
	}
}

// decodeStrings takes a list, or one string: divided at commas, as zot does,
// unless the type says a comma is part of the value.
func (p *parser) decodeStrings(s *spec, n *node, v reflect.Value, at keyPath) {
	var texts []string
	switch {
	case n.kind == listNode:
		for i, item := range n.items {
			switch item.kind {
			case stringNode, numberNode, boolNode:
				texts = append(texts, item.text)
			default:
				p.fail(item.line, at.index(i), "must be a string, not %s", item.kind)
			}
		}
	case n.kind == objectNode:
		p.mismatch(s, n, at)
		return
	case n.text == "":
	case s.Type == Addrs:
		texts = []string{n.text}
	default:
		texts = strings.Split(n.text, ",")
	}
	for i, text := range texts {
		if s.Values == nil {
			continue
		}
		known, ok := s.has(text)
		if !ok {
			p.fail(n.line, at, "%q is not one of %s", text, list(s.Values))
			continue
		}
		texts[i] = known
	}
	if texts == nil {
		texts = []string{} // present and empty is not absent
	}
	v.Set(reflect.ValueOf(texts))
}

func (p *parser) decodeScalar(s *spec, n *node, v reflect.Value, at keyPath) {
	if n.kind == listNode || n.kind == objectNode {
		p.mismatch(s, n, at)
		return
	}
	ok := true
	switch s.Type {
	case Bool:
		var b bool
		b, ok = weakBool(n)
		v.SetBool(b)
	case Int:
		var i int64
		i, ok = weakInt(n)
		v.SetInt(i)
	case Float:
		f, err := strconv.ParseFloat(n.text, 64)
		ok = err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && n.kind != boolNode
		v.SetFloat(f)
	case Duration:
		var d time.Duration
		d, ok = weakDuration(n)
		v.SetInt(int64(d))
	default:
		text := n.text
		if s.Values != nil {
			known, found := s.has(text)
			if !found {
				p.fail(n.line, at, "%q is not one of %s", text, list(s.Values))
				return
			}
			text = known
		}
		v.SetString(text)
	}
	if !ok {
		p.mismatch(s, n, at)
	}
}

// mismatch says what the key holds and what was found. A secret is not shown.
func (p *parser) mismatch(s *spec, n *node, at keyPath) {
	want := map[Type]string{
		Object:   "an object",
		Map:      "an object",
		DriverT:  "an object",
		List:     "a list of objects",
		Strings:  "a list of strings",
		Addrs:    "a string or a list of strings",
		Bool:     "true or false",
		Int:      "a whole number",
		Float:    "a number",
		Duration: "a duration such as 90s or 1h30m",
	}[s.Type]
	if want == "" {
		want = "a string"
	}
	found := n.kind.String()
	if n.kind == stringNode || n.kind == numberNode {
		found = strconv.Quote(n.text)
	}
	p.fail(n.line, at, "must be %s, not %s", want, found)
}

func weakBool(n *node) (v, ok bool) {
	switch {
	case n.kind == stringNode && n.text == "":
		return false, true
	case n.kind == numberNode:
		f, err := strconv.ParseFloat(n.text, 64)
		return f != 0, err == nil
	}
	switch strings.ToLower(n.text) {
	case "yes", "on":
		return true, true
	case "no", "off":
		return false, true
	}
	b, err := strconv.ParseBool(n.text)
	return b, err == nil
}

func weakInt(n *node) (int64, bool) {
	switch {
	case n.kind == boolNode:
		return 0, false
	case n.kind == stringNode && n.text == "":
		return 0, true
	}
	if i, err := strconv.ParseInt(n.text, 0, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// weakDuration takes Go's notation or a number of nanoseconds.
func weakDuration(n *node) (time.Duration, bool) {
	if n.kind == stringNode {
		d, err := time.ParseDuration(n.text)
		return d, err == nil
	}
	i, ok := weakInt(n)
	return time.Duration(i), ok
}

// free turns a node into plain values, with object keys in lower case.
func free(n *node) any {
	switch n.kind {
	case boolNode:
		b, _ := strconv.ParseBool(n.text)
		return b
	case numberNode:
		if i, err := strconv.ParseInt(n.text, 0, 64); err == nil {
			return i
		}
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil {
			return n.text
		}
		return f
	case stringNode:
		return n.text
	case listNode:
		items := make([]any, len(n.items))
		for i, item := range n.items {
			items[i] = free(item)
		}
		return items
	case objectNode:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[strings.ToLower(e.key)] = free(e.value)
		}
		return m
	default:
		return nil
	}
}

// fieldsOf returns the fields of a struct, embedded ones included, by their
// lower-case key.
func fieldsOf(t reflect.Type) map[string][]int {
	fields := make(map[string][]int)
	for _, f := range reflect.VisibleFields(t) {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" {
			fields[strings.ToLower(key)] = f.Index
		}
	}
	return fields
}

func list(values []string) string {
	quoted := make([]string, 0, len(values))
	for _, v := range values {
		if v != "" {
			quoted = append(quoted, fmt.Sprintf("%q", v))
		}
	}
	return strings.Join(quoted, ", ")
}
