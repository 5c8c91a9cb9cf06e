// Package search answers GraphQL queries about images (zot's search extension) from a
// catalog. The schema is zot's, see schema.graphql.
//
// The language is read and checked by gqlparser; the executor is this package's own,
// because the schema needs little of one (objects and lists, no mutations), and because
// what a query may cost is decided on its way. docs/adr/0050-search.md has the figures.
package search
