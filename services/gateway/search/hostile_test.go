package search

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// S-116: queries that would cost more than they may are refused before anything is
// asked of the catalog.
func TestS116HostileQueries(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	many := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	bomb := many(30, func(i int) string {
		return fmt.Sprintf("fragment f%d on PaginatedImagesResult{...f%d ...f%d}", i, i+1, i+1)
	}) + "fragment f30 on PaginatedImagesResult{Tags}"
	for name, query := range map[string]string{
		"directives":           `{ImageList{Tags ` + many(10_000, func(int) string { return "@skip(if:false)" }) + `}}`,
		"some directives":      `{ImageList{Tags ` + many(51, func(int) string { return "@skip(if:false)" }) + `}}`,
		"aliases":              `{` + many(1000, func(i int) string { return fmt.Sprintf("a%d:ImageList{Tags} ", i) }) + `}`,
		"some aliases":         `{` + many(21, func(i int) string { return fmt.Sprintf("a%d:ImageList{Tags} ", i) }) + `}`,
		"aliases below":        `{ImageList{` + many(1001, func(i int) string { return fmt.Sprintf("a%d:Tags ", i) }) + `}}`,
		"depth":                strings.Repeat("{a", 100) + strings.Repeat("}", 100),
		"more depth":           strings.Repeat("{a", 5000) + strings.Repeat("}", 5000),
		"depth of values":      `{ImageList(requestedPage:` + strings.Repeat("{a:", 3000) + "1" + strings.Repeat("}", 3000) + `){Tags}}`,
		"depth of lists":       `{Referrers(repo:"a",digest:"b",type:` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `){Digest}}`,
		"a fragment cycle":     `{ImageList{...a}} fragment a on PaginatedImagesResult{...b} fragment b on PaginatedImagesResult{...a}`,
		"a fragment of itself": `{ImageList{...a}} fragment a on PaginatedImagesResult{...a}`,
		"a fragment bomb":      `{ImageList{...f0}}` + bomb,
		"fragments":            `{__typename}` + many(51, func(i int) string { return fmt.Sprintf("fragment f%d on Query{__typename}", i) }),
		"operations":           many(21, func(i int) string { return fmt.Sprintf("query q%d{__typename}", i) }),
		"a list":               `{Referrers(repo:"a",digest:"b",type:[` + many(1_000_000, func(int) string { return `"x",` }) + `]){Digest}}`,
		"a text":               `{GlobalSearch(query:"` + strings.Repeat("a", 1<<20) + `"){Repos{Name}}}`,
		"a batch":              "[" + strings.TrimSuffix(many(1000, func(int) string { return `{"query":"{__typename}"},` }), ",") + "]",
	} {
		if name != "a batch" {
			query = string(encode(t, map[string]string{"query": query}))
		}
		got := w.post(t, alice, query)
		if got.status != 400 || len(got.Errors) == 0 {
			t.Errorf("%s: %d %v", name, got.status, got.Errors)
		}
	}
	for name, body := range map[string]string{
		"a list in a variable": string(encode(t, map[string]any{"query": `query($t:[String!]){Referrers(repo:"base",digest:"` + w.ids["base:1"].String() + `",type:$t){Digest}}`, "variables": map[string]any{"t": strings.Split(strings.Repeat("x ", 200), " ")}})),
		"pages of everything":  `{"query":"{` + many(20, func(i int) string { return fmt.Sprintf("a%d:ImageList(requestedPage:{limit:1000}){Tags} ", i) }) + `}"}`,
	} {
		if got := w.post(t, alice, body); len(got.Errors) == 0 || string(got.Data) != "null" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// S-116: a page without a limit counts with all that is on it.
func TestS116PagesWithoutLimit(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 30 {
		var tags []registry.Tag
		for n := range 10 {
			tags = append(tags, registry.Tag(fmt.Sprint("v", i, ".", n)))
		}
		w.image(t, "base", "amd64", "2024-01-01T00:00:00Z", []string{"rootfs"}, nil, tags...)
	}
	h, err := New(Options{Catalog: w.Catalog})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{h: h, actor: alice, room: 350}
	q := registry.ImageQuery{Repository: "base"}
	if found, err := s.images(t.Context(), q, page{}, nil); err != nil || len(found.Items) != 300 {
		t.Fatalf("%d images, %v", len(found.Items), err)
	}
	if _, err := s.images(t.Context(), q, page{}, nil); !errors.Is(err, registry.ErrTooManyRequests) {
		t.Errorf("another 300: %v", err)
	}
}

// introspection is the query by which tools read a schema, as deep as they go.
const introspection = `query IntrospectionQuery{__schema{queryType{name} mutationType{name} subscriptionType{name} types{...FullType} directives{name description locations args{...InputValue}}}}
fragment FullType on __Type{kind name description fields(includeDeprecated:true){name description args{...InputValue} type{...TypeRef} isDeprecated deprecationReason}
 inputFields{...InputValue} interfaces{...TypeRef} enumValues(includeDeprecated:true){name description isDeprecated deprecationReason} possibleTypes{...TypeRef}}
fragment InputValue on __InputValue{name description type{...TypeRef} defaultValue}
fragment TypeRef on __Type{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name}}}}}}}}`

// S-116: strangers don't read the schema where there are users; it says what is in
// schema.graphql to all others.
func TestS116Introspection(t *testing.T) {
	open, closed := newWorld(t, nil), newWorld(t, &registry.AccessRules{})
	if got := closed.get(t, registry.Actor{}, introspection); got.status != 400 || !strings.Contains(got.Errors[0].Message, "log in") {
		t.Errorf("a stranger: %+v", got)
	}
	if got := closed.get(t, registry.Actor{}, `{...a} fragment a on Query{__type(name:"Query"){name}}`); got.status != 400 {
		t.Errorf("a stranger, by a fragment: %+v", got)
	}
	if got := closed.get(t, registry.Actor{}, `{__typename}`); got.status != 200 {
		t.Errorf("a stranger's query: %+v", got)
	}
	for _, got := range []reply{open.get(t, registry.Actor{}, introspection), closed.get(t, alice, introspection)} {
		if got.status != 200 || len(got.Errors) > 0 {
			t.Fatalf("%+v", got)
		}
		for _, part := range []string{
			`"name":"ImageSummary"`, `"kind":"ENUM","name":"SortCriteria"`, `"name":"ALPHABETIC_DSC"`, `"kind":"INPUT_OBJECT","name":"PageInput"`, `"defaultValue":"\"\""`,
			`"isDeprecated":true,"deprecationReason":"Results has them."`, `"name":"skip"`, `"kind":"NON_NULL","name":null,"ofType":{"kind":"LIST"`,
		} {
			if !strings.Contains(string(got.Data), part) {
				t.Errorf("the schema has no %s", part)
			}
		}
	}
	q := `{__type(name:"Annotation"){name kind fields{name type{name}}}}`
	open.get(t, alice, q).want(t, q, `{"__type":{"name":"Annotation","kind":"OBJECT","fields":[{"name":"Key","type":{"name":"String"}},{"name":"Value","type":{"name":"String"}}]}}`)
	q = `{__type(name:"None"){name}}`
	open.get(t, alice, q).want(t, q, `{"__type":null}`)
}

// FuzzQuery feeds the parser and the executor.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{`{ImageList{Name Tags}}`, introspection, `query A($r:String!){ImageList(repo:$r){Results{Tag}}}`, `{GlobalSearch(query:"a",filter:{Os:["x"]}){Repos{Name}}}`, `{...a} fragment a on Query{...a}`} {
		f.Add(s, `{"r":"base"}`)
	}
	h, err := New(Options{Catalog: newEmpty()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, variables string) {
		var vars map[string]any
		if unmarshal([]byte(variables), &vars) != nil {
			vars = nil
		}
		status, data, errs := h.answer(t.Context(), alice, question{Query: query, Variables: vars})
		if status == 200 && len(data) == 0 || status != 200 && len(errs) == 0 {
			t.Errorf("%d, %d bytes, %v", status, len(data), errs)
		}
	})
}
