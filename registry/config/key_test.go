package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fieldType says what Go type holds a key of each type.
func fieldType(k Type) string {
	switch k {
	case Object:
		return "struct"
	case Map, SecretsT, DriverT:
		return "map"
	case List, Strings, Addrs:
		return "slice"
	case Bool:
		return "bool"
	case Int:
		return "int"
	case Float:
		return "float64"
	case Duration:
		return "time.Duration"
	case SecretT:
		return "config.Secret"
	default:
		return "string"
	}
}

// compare walks the table and the Go types side by side.
func compare(t *testing.T, s *spec, v reflect.Value, at string) {
	typ := v.Type()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
		v = reflect.New(typ).Elem()
	}
	got := typ.Kind().String()
	if typ.PkgPath() != "" && typ.Kind() != reflect.Struct && typ.Kind() != reflect.Map {
		got = typ.String()
	}
	if got == "int64" { // where a machine's integers may be too small
		got = "int"
	}
	if got != fieldType(s.Type) {
		t.Errorf("%s is %s in the table and %s in Go", at, s.Type, typ)
		return
	}
	switch s.Type {
	case Object:
		if d, ok := v.Addr().Interface().(defaulter); ok {
			d.setDefaults()
		}
		fields := fieldsOf(typ)
		for _, name := range s.order {
			index, ok := fields[strings.ToLower(name)]
			if !ok {
				t.Errorf("%s.%s is in the table and not in %s", at, name, typ)
				continue
			}
			delete(fields, strings.ToLower(name))
			compare(t, s.keys[strings.ToLower(name)], v.FieldByIndex(index), at+"."+name)
		}
		for name := range fields {
			t.Errorf("%s.%s is in %s and not in the table", at, name, typ)
		}
	case Map, List:
		compare(t, s.elem, reflect.New(typ.Elem()).Elem(), at+".*")
	default:
		compareDefault(t, s, v, at)
	}
}

func compareDefault(t *testing.T, s *spec, v reflect.Value, at string) {
	got := ""
	switch x := v.Interface().(type) {
	case time.Duration:
		if x != 0 {
			got = strings.TrimSuffix(strings.TrimSuffix(x.String(), "0s"), "0m")
			if got == "" || !strings.ContainsAny(got, "hms") || x < time.Minute {
				got = x.String()
			}
		}
	case bool:
		got = strconv.FormatBool(x)
		if s.Default == "" && !x || strings.HasSuffix(at, ".commit") || s.when == never {
			return // absent is as good as false; commit and enable are absent by default
		}
	case int:
		if x != 0 {
			got = strconv.Itoa(x)
		}
	case float64:
		if x != 0 {
			got = strconv.FormatFloat(x, 'g', -1, 64)
		}
	case []string:
		if x != nil {
			got = fmt.Sprintf("[%q]", strings.Join(x, ","))
		}
	case string:
		got = x
	}
	if got != s.Default {
		t.Errorf("%s: the default is %q in the table and %q in Go", at, s.Default, got)
	}
}

func TestTableMatchesTypes(t *testing.T) {
	compare(t, schema(), reflect.ValueOf(Defaults()).Elem(), "")
}

func TestTableIsWellFormed(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, k := range Keys() {
		if seen[k.Path] {
			t.Errorf("%s has two rows", k.Path)
		}
		if !seen[parent(k.Path)] {
			t.Errorf("%s comes before %s", k.Path, parent(k.Path))
		}
		seen[k.Path] = true
		if k.Status == inherit || k.Type == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: status %v, type %q, doc %q", k.Path, k.Status, k.Type, k.Doc)
		}
	}
	if len(seen) < 250 {
		t.Errorf("the table has %d rows only", len(seen))
	}
}
