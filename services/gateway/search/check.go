package search

import (
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

// Bounds of a query, before anything else is looked at. The largest one of zot's web
// interface has some 120 fields, 5 levels and 400 tokens, and the one by which tools
// read the whole schema 13 levels.
const (
	maxBody       = 64 << 10 // bytes of a request
	maxQuery      = 16 << 10 // bytes
	maxTokens     = 4000
	maxDepth      = 20
	maxFields     = 1000 // fragments counted wherever they are spread
	maxDirectives = 50
	maxFragments  = 50
	maxRoots      = 20 // fields of the operation itself
	maxListed     = 100
)

// parse reads a query that is no larger than anybody needs.
func parse(query string) (*ast.QueryDocument, error) {
	if len(query) > maxQuery {
		return nil, fmt.Errorf("the query is larger than %d bytes", maxQuery)
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: query}, maxTokens)
	if err != nil {
		return nil, err
	}
	if len(doc.Fragments) > maxFragments {
		return nil, fmt.Errorf("the query has more than %d fragments", maxFragments)
	}
	if len(doc.Operations) > maxRoots {
		return nil, fmt.Errorf("the query has more than %d operations", maxRoots)
	}
	s := shape{doc: doc, sizes: make(map[string]*size)}
	for _, op := range doc.Operations {
		if len(op.SelectionSet) > maxRoots {
			return nil, fmt.Errorf("the query asks for more than %d things at once", maxRoots)
		}
		z, err := s.of(op.SelectionSet)
		if err != nil {
			return nil, err
		}
		s.directives += len(op.Directives)
		if err := z.check(); err != nil {
			return nil, err
		}
	}
	if s.directives > maxDirectives {
		return nil, fmt.Errorf("the query has more than %d directives", maxDirectives)
	}
	return doc, nil
}

// shape measures a query. It needs no schema, so that it can go before all that
// compares fields with each other.
type shape struct {
	doc        *ast.QueryDocument
	sizes      map[string]*size // of fragments; nil: it is being measured
	directives int
}

// size is what a selection comes to when all fragments are spread.
type size struct{ depth, fields int }

func (z size) check() error {
	switch {
	case z.depth > maxDepth:
		return fmt.Errorf("the query is nested deeper than %d levels", maxDepth)
	case z.fields > maxFields:
		return fmt.Errorf("the query has more than %d fields", maxFields)
	}
	return nil
}

func (s *shape) of(set ast.SelectionSet) (size, error) {
	var all size
	add := func(z size, level int) {
		all.depth = max(all.depth, z.depth+level)
		all.fields = min(all.fields+z.fields+level, maxFields+1)
	}
	for _, sel := range set {
		switch sel := sel.(type) {
		case *ast.Field:
			s.directives += len(sel.Directives)
			z, err := s.of(sel.SelectionSet)
			if err != nil {
				return all, err
			}
			add(z, 1)
		case *ast.InlineFragment:
			s.directives += len(sel.Directives)
			z, err := s.of(sel.SelectionSet)
			if err != nil {
				return all, err
			}
			add(z, 0)
		case *ast.FragmentSpread:
			s.directives += len(sel.Directives)
			z, err := s.fragment(sel)
			if err != nil {
				return all, err
			}
			add(z, 0)
		}
	}
	return all, nil
}

func (s *shape) fragment(spread *ast.FragmentSpread) (size, error) {
	z, begun := s.sizes[spread.Name]
	switch {
	case z != nil:
		return *z, nil
	case begun:
		return size{}, gqlerror.ErrorPosf(spread.Position, "the fragment %q has itself in it", spread.Name)
	}
	f := s.doc.Fragments.ForName(spread.Name)
	if f == nil {
		return size{}, gqlerror.ErrorPosf(spread.Position, "there is no fragment %q", spread.Name)
	}
	s.sizes[spread.Name] = nil
	s.directives += len(f.Directives)
	measured, err := s.of(f.SelectionSet)
	if err != nil {
		return size{}, err
	}
	s.sizes[spread.Name] = &measured
	return measured, nil
}

// introspects reports whether an operation asks for the schema.
func introspects(doc *ast.QueryDocument, set ast.SelectionSet) bool {
	for _, sel := range set {
		switch sel := sel.(type) {
		case *ast.Field:
			if sel.Name == "__schema" || sel.Name == "__type" {
				return true
			}
		case *ast.InlineFragment:
			if introspects(doc, sel.SelectionSet) {
				return true
			}
		case *ast.FragmentSpread: // which ends: there are no cycles
			if f := doc.Fragments.ForName(sel.Name); f != nil && introspects(doc, f.SelectionSet) {
				return true
			}
		}
	}
	return false
}
