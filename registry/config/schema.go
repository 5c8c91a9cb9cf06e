package config

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// Schema returns the JSON Schema (draft-07) of the file, made from the table.
// It knows each key in its usual spelling only, though any letter case is read.
func Schema() []byte {
	root := schema().jsonSchema()
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "Berth configuration"
	root["description"] = "Configuration of every Berth program. Letter case of keys does not count when the file is read."
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(err) // maps of strings and booleans can be encoded
	}
	return out.Bytes()
}

// jsonSchema describes what the decoder accepts for s: weak types, too, or a
// file with "${VARIABLE}" in place of a number would not pass.
func (s *spec) jsonSchema() map[string]any {
	m := map[string]any{}
	if s.Doc != "" && !strings.HasSuffix(s.Path, "[]") {
		m["description"] = s.describe()
	}
	switch s.Type {
	case Object:
		properties := map[string]any{}
		for _, name := range s.order {
			properties[name] = s.keys[strings.ToLower(name)].jsonSchema()
		}
		m["type"] = "object"
		m["properties"] = properties
		m["additionalProperties"] = s.lax
	case Map:
		m["type"] = "object"
		m["additionalProperties"] = s.elem.jsonSchema()
	case DriverT:
		m["type"] = "object"
	case SecretsT:
		m["type"] = "object"
		m["additionalProperties"] = map[string]any{"type": "string"}
	case List:
		m["type"] = "array"
		m["items"] = s.elem.jsonSchema()
	case Strings, Addrs:
		m["type"] = []string{"array", "string"}
		m["items"] = s.text()
	case Bool:
		m["type"] = []string{"boolean", "string"}
	case Int:
		m["type"] = []string{"integer", "string"}
	case Float:
		m["type"] = []string{"number", "string"}
	case Duration:
		m["type"] = []string{"string", "integer"}
	default:
		for k, v := range s.text() {
			m[k] = v
		}
	}
	if v, ok := s.defaultValue(); ok {
		m["default"] = v
	}
	return m
}

// text describes one string. Numbers are read as strings, too: ports are often
// written so.
func (s *spec) text() map[string]any {
	if s.Values == nil {
		return map[string]any{"type": []string{"string", "number"}}
	}
	return map[string]any{"anyOf": []any{
		map[string]any{"enum": s.Values},
		map[string]any{"type": "string", "pattern": `\$\{`},
	}}
}

// describe returns the meaning of a key and, if it is not built, its status.
func (s *spec) describe() string {
	switch s.Status {
	case Warned:
		return s.Doc + " Not built yet: ignored with a warning."
	case Refused:
		return s.Doc + " Not built yet: refused."
	case Unneeded:
		return s.Doc + " Accepted and ignored."
	}
	return s.Doc
}

func (s *spec) defaultValue() (any, bool) {
	switch s.Type {
	case Bool:
		b, err := strconv.ParseBool(s.Default)
		return b, err == nil
	case Int:
		i, err := strconv.Atoi(s.Default)
		return i, err == nil
	case Strings:
		var list []string
		err := json.Unmarshal([]byte(s.Default), &list)
		return list, err == nil
	}
	return s.Default, s.Default != ""
}
