package search

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Values of the types with which a schema describes itself (GraphQL specification,
// October 2021, §4).
type (
	schemaValue struct{ *ast.Schema }
	typeValue   struct {
		schema *ast.Schema
		t      *ast.Type
	} // possibly a list or non-null
	fieldValue struct {
		schema *ast.Schema
		f      *ast.FieldDefinition
	}
	argumentValue struct {
		schema *ast.Schema
		a      *ast.ArgumentDefinition
	}
	directiveValue struct {
		schema *ast.Schema
		d      *ast.DirectiveDefinition
	}
)

func (v schemaValue) field(_ context.Context, f *request) (any, error) {
	switch f.Name {
	case "types":
		var all []any
		for _, name := range slices.Sorted(maps.Keys(v.Types)) {
			all = append(all, named(v.Schema, name))
		}
		return all, nil
	case "queryType":
		return named(v.Schema, v.Query.Name), nil
	case "directives":
		var all []any
		for _, name := range slices.Sorted(maps.Keys(v.Directives)) {
			all = append(all, directiveValue{v.Schema, v.Directives[name]})
		}
		return all, nil
	}
	return nil, nil
}

func named(s *ast.Schema, name string) any {
	if s.Types[name] == nil {
		return nil
	}
	return typeValue{s, &ast.Type{NamedType: name}}
}

func (v typeValue) field(_ context.Context, f *request) (any, error) {
	switch {
	case v.t.NonNull:
		inner := *v.t
		inner.NonNull = false
		return wrapping("NON_NULL", typeValue{v.schema, &inner}, f.Name), nil
	case v.t.Elem != nil:
		return wrapping("LIST", typeValue{v.schema, v.t.Elem}, f.Name), nil
	}
	def := v.schema.Types[v.t.NamedType]
	switch f.Name {
	case "kind":
		return string(def.Kind), nil
	case "name":
		return def.Name, nil
	case "description":
		return optional(def.Description), nil
	case "isOneOf":
		return false, nil
	case "fields":
		if def.Kind != ast.Object {
			return nil, nil
		}
		all := []any{}
		for _, x := range def.Fields {
			if !strings.HasPrefix(x.Name, "__") && shown(x.Directives, f) {
				all = append(all, fieldValue{v.schema, x})
			}
		}
		return all, nil
	case "inputFields":
		if def.Kind != ast.InputObject {
			return nil, nil
		}
		all := []any{}
		for _, x := range def.Fields {
			all = append(all, argumentValue{v.schema, &ast.ArgumentDefinition{Name: x.Name, Description: x.Description, Type: x.Type, DefaultValue: x.DefaultValue}})
		}
		return all, nil
	case "interfaces":
		if def.Kind == ast.Object {
			return []any{}, nil
		}
	case "enumValues":
		if def.Kind != ast.Enum {
			return nil, nil
		}
		all := []any{}
		for _, x := range def.EnumValues {
			if shown(x.Directives, f) {
				all = append(all, deprecation(x.Directives, fields{"name": x.Name, "description": optional(x.Description)}))
			}
		}
		return all, nil
	}
	return nil, nil
}

// wrapping is a type around another one.
func wrapping(kind string, of typeValue, field string) any {
	switch field {
	case "kind":
		return kind
	case "ofType":
		return of
	}
	return nil
}

func shown(d ast.DirectiveList, f *request) bool {
	all, _ := f.args["includeDeprecated"].(bool)
	return all || d.ForName("deprecated") == nil
}

// deprecation adds to o whether something should be used.
func deprecation(d ast.DirectiveList, o fields) fields {
	o["isDeprecated"] = false
	if x := d.ForName("deprecated"); x != nil {
		o["isDeprecated"], o["deprecationReason"] = true, x.ArgumentMap(nil)["reason"]
	}
	return o
}

func (v fieldValue) field(_ context.Context, f *request) (any, error) {
	switch f.Name {
	case "args":
		all := []any{}
		for _, a := range v.f.Arguments {
			all = append(all, argumentValue{v.schema, a})
		}
		return all, nil
	case "type":
		return typeValue{v.schema, v.f.Type}, nil
	}
	return deprecation(v.f.Directives, fields{"name": v.f.Name, "description": optional(v.f.Description)})[f.Name], nil
}

func (v argumentValue) field(_ context.Context, f *request) (any, error) {
	switch f.Name {
	case "name":
		return v.a.Name, nil
	case "description":
		return optional(v.a.Description), nil
	case "type":
		return typeValue{v.schema, v.a.Type}, nil
	case "defaultValue":
		if v.a.DefaultValue != nil {
			return v.a.DefaultValue.String(), nil
		}
	case "isDeprecated":
		return false, nil
	}
	return nil, nil
}

func (v directiveValue) field(_ context.Context, f *request) (any, error) {
	switch f.Name {
	case "name":
		return v.d.Name, nil
	case "description":
		return optional(v.d.Description), nil
	case "isRepeatable":
		return v.d.IsRepeatable, nil
	case "locations":
		all := []any{}
		for _, l := range v.d.Locations {
			all = append(all, string(l))
		}
		return all, nil
	case "args":
		all := []any{}
		for _, a := range v.d.Arguments {
			all = append(all, argumentValue{v.schema, a})
		}
		return all, nil
	}
	return nil, nil
}

// optional is nil for no text.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}
