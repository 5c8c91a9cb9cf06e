package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/berth-registry/berth/registry"
)

// object is a value with fields. field returns that of a name: nil, a scalar, an
// object, or a list of those as []any.
type object interface {
	field(ctx context.Context, f *request) (any, error)
}

// fields is an object that has been made already.
type fields map[string]any

func (o fields) field(_ context.Context, f *request) (any, error) { return o[f.Name], nil }

// request is a field that was asked for.
type request struct {
	*ast.Field
	args map[string]any
	run  *execution
	sets []ast.SelectionSet // of all fields with the same key
}

// execution is one operation in progress.
type execution struct {
	schema *ast.Schema
	doc    *ast.QueryDocument
	vars   map[string]any
	out    bytes.Buffer
	errors gqlerror.List
	path   ast.Path
	fail   func(error) string // what to tell of an error
}

// maxErrors is how many errors an answer tells of.
const maxErrors = 20

// maxAnswer is how many bytes an answer has at most.
const maxAnswer = 32 << 20

// errLarge ends an execution.
var errLarge = registry.ErrTooLarge.With("the answer is larger than %d bytes: ask for a page, or for fewer fields", maxAnswer)

// run writes what an operation asks for, "null" if that can't be.
func (e *execution) run(ctx context.Context, op *ast.OperationDefinition, root object) {
	err := e.object(ctx, e.schema.Query, root, []ast.SelectionSet{op.SelectionSet})
	if err != nil {
		e.note(err)
		e.out.Reset()
		e.out.WriteString("null")
	}
}

// errNull says that something that must not be null is: the error was noted.
var errNull = errors.New("null")

// note adds an error of where the execution is.
func (e *execution) note(err error) {
	if errors.Is(err, errNull) || len(e.errors) >= maxErrors {
		return
	}
	e.errors = append(e.errors, &gqlerror.Error{Message: e.fail(err), Path: append(ast.Path{}, e.path...)})
}

// object writes an object with the fields of some selections.
func (e *execution) object(ctx context.Context, def *ast.Definition, o object, sets []ast.SelectionSet) error {
	var all []*request
	at := make(map[string]*request)
	for _, set := range sets {
		if err := e.collect(set, &all, at); err != nil {
			return err
		}
	}
	e.out.WriteByte('{')
	for i, f := range all {
		if i > 0 {
			e.out.WriteByte(',')
		}
		e.string(f.Alias)
		e.out.WriteByte(':')
		if err := e.one(ctx, def, o, f); err != nil {
			return err
		}
	}
	e.out.WriteByte('}')
	if e.out.Len() > maxAnswer {
		return errLarge
	}
	return nil
}

// one writes the value of a field.
func (e *execution) one(ctx context.Context, def *ast.Definition, o object, f *request) error {
	e.path = append(e.path, ast.PathName(f.Alias))
	defer func() { e.path = e.path[:len(e.path)-1] }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Name == "__typename" {
		e.string(def.Name)
		return nil
	}
	f.args = f.ArgumentMap(e.vars)
	v, err := o.field(ctx, f)
	if err != nil {
		e.note(err)
		v = nil
	}
	start := e.out.Len()
	err = e.value(ctx, f.Definition.Type, v, f)
	if err == nil || errors.Is(err, errLarge) || f.Definition.Type.NonNull {
		return err
	}
	e.out.Truncate(start)
	e.out.WriteString("null")
	return nil
}

// value writes a value of a type.
func (e *execution) value(ctx context.Context, t *ast.Type, v any, f *request) error {
	if v == nil {
		if t.NonNull {
			return errNull
		}
		e.out.WriteString("null")
		return nil
	}
	if t.Elem != nil {
		return e.list(ctx, t.Elem, v, f)
	}
	if o, ok := v.(object); ok {
		return e.object(ctx, e.schema.Types[t.NamedType], o, f.sets)
	}
	if s, ok := v.(string); ok {
		e.string(s)
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing a value: %w", err)
	}
	e.out.Write(b)
	return nil
}

func (e *execution) list(ctx context.Context, elem *ast.Type, v any, f *request) error {
	all, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%s is %T, and no list", f.Name, v)
	}
	e.out.WriteByte('[')
	for i, v := range all {
		if i > 0 {
			e.out.WriteByte(',')
		}
		e.path = append(e.path, ast.PathIndex(i))
		start := e.out.Len()
		err := e.value(ctx, elem, v, f)
		e.path = e.path[:len(e.path)-1]
		if err == nil {
			continue
		}
		if elem.NonNull || errors.Is(err, errLarge) {
			return err
		}
		e.out.Truncate(start)
		e.out.WriteString("null")
	}
	e.out.WriteByte(']')
	return nil
}

func (e *execution) string(s string) {
	b, _ := json.Marshal(s) // text is never refused
	e.out.Write(b)
}

// collect adds the fields of a selection, those of one key together. There are neither
// interfaces nor unions, so a fragment that was found to be valid fits.
func (e *execution) collect(set ast.SelectionSet, all *[]*request, at map[string]*request) error {
	for _, sel := range set {
		var inner ast.SelectionSet
		switch sel := sel.(type) {
		case *ast.Field:
			if !e.included(sel.Directives) {
				continue
			}
			f := at[sel.Alias]
			if f == nil {
				f = &request{Field: sel, run: e}
				at[sel.Alias] = f
				*all = append(*all, f)
			}
			f.sets = append(f.sets, sel.SelectionSet)
			continue
		case *ast.InlineFragment:
			if e.included(sel.Directives) {
				inner = sel.SelectionSet
			}
		case *ast.FragmentSpread:
			if e.included(sel.Directives) {
				inner = sel.Definition.SelectionSet
			}
		}
		if err := e.collect(inner, all, at); err != nil {
			return err
		}
	}
	return nil
}

// included obeys @skip and @include.
func (e *execution) included(all ast.DirectiveList) bool {
	for _, d := range all {
		on, _ := d.ArgumentMap(e.vars)["if"].(bool)
		if d.Name == "skip" && on || d.Name == "include" && !on {
			return false
		}
	}
	return true
}

// names returns the names of all fields below a field.
func (f *request) names() map[string]bool {
	names := make(map[string]bool)
	f.run.addNames(f.sets, names)
	return names
}

func (e *execution) addNames(sets []ast.SelectionSet, names map[string]bool) {
	for _, set := range sets {
		for _, sel := range set {
			switch sel := sel.(type) {
			case *ast.Field:
				if e.included(sel.Directives) {
					names[sel.Name] = true
					e.addNames([]ast.SelectionSet{sel.SelectionSet}, names)
				}
			case *ast.InlineFragment:
				e.addNames([]ast.SelectionSet{sel.SelectionSet}, names)
			case *ast.FragmentSpread:
				e.addNames([]ast.SelectionSet{sel.Definition.SelectionSet}, names)
			}
		}
	}
}

// below returns a field of the field's own, as if it had been asked for: nil if it was
// not.
func (f *request) below(name string) *request {
	var all []*request
	at := make(map[string]*request)
	for _, set := range f.sets {
		if f.run.collect(set, &all, at) != nil {
			return nil
		}
	}
	var found *request
	for _, r := range all {
		if r.Name == name {
			if found == nil {
				found = &request{Field: r.Field, run: f.run}
			}
			found.sets = append(found.sets, r.sets...)
		}
	}
	return found
}

// text returns an argument that is a string, "" if it was not given.
func (f *request) text(name string) string { return textOf(f.args, name) }

func textOf(args map[string]any, name string) string {
	s, _ := args[name].(string)
	return s
}

// number returns a member that is an integer; not ok if it was not given.
func number(args map[string]any, name string) (n int64, ok bool) {
	switch v := args[name].(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		return int64(v), true
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	}
	return 0, false
}

// texts returns a list of strings, without nulls.
func texts(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	var all []string
	list, _ := v.([]any)
	for _, x := range list {
		if s, ok := x.(string); ok {
			all = append(all, s)
		}
	}
	return all
}
