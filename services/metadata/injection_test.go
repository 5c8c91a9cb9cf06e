package metadata_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// injections are what those send who try to get at a database by what they ask of
// a registry.
var injections = []string{
	`'`, `''`, `"`, "`", `\`, `%`, `_`, `%_%`, `;`, `--`, `/*`, `*/`, `$1`, `$$`, `?`, `:a`, `@a`, `{}`, `[]`, `~`, `!`,
	`' OR '1'='1`, `" OR ""="`, `') OR ('1'='1`, `1 OR 1=1`, `1) OR (1=1`, `' OR 1=1--`, `' OR 1=1#`, `' OR 1=1/*`,
	`'; DROP TABLE tags; --`, `'); DROP TABLE repositories; --`, `"; DELETE FROM blobs; --`, `$$; DROP TABLE links; $$`,
	`' UNION SELECT name FROM repositories --`, `' UNION ALL SELECT NULL,NULL,NULL--`, `x' AND (SELECT COUNT(*) FROM tags)>0--`,
	`'||(SELECT name FROM repositories LIMIT 1)||'`, `' AND SUBSTR((SELECT name FROM repositories),1,1)='s`,
	`'; SELECT pg_sleep(30); --`, `' || pg_sleep(30) || '`, `1 AND randomblob(1000000000)`, `' AND 1=CAST((SELECT version()) AS INT)--`,
	`'; COPY tags TO PROGRAM 'id'; --`, `'; ATTACH DATABASE '/tmp/x' AS x; --`, `' AND load_extension('x')--`, `E'\047'`, `U&'\0027'`,
	`¿'`, "\u02bc", "\uff07", "\xbf'", "a\nb", "a\tb", strings.Repeat(`'`, 300), strings.Repeat("A", 300) + `'`,
}

// Whatever is asked for is looked for and nothing else: lists begin behind it in
// the order of bytes, and nothing is changed by it.
func TestS140Injection(t *testing.T) { onEach(t, testS140Injection) }

func testS140Injection(t *testing.T, at newPlace) {
	c := openStore(t, at(t), metadata.Options{}, nil)
	var alice registry.Actor
	repos := []registry.Name{"a", "secret/one", "z"}
	tags := []registry.Tag{"A", "_x", "latest", "v1"}
	subject := pushImage(t, c, "a", "image", tags...)
	for _, repo := range repos[1:] {
		pushImage(t, c, repo, "image", "latest")
	}
	config := blob("config of a referrer")
	if _, err := c.Link(t.Context(), alice, "a", config); err != nil {
		t.Fatal(err)
	}
	put(t, c, "a", referrer(config, "application/x", subject))
	all := func() string {
		t.Helper()
		r, err := c.Repositories(t.Context(), alice, registry.Page[registry.Name]{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Referrers(t.Context(), alice, "a", subject.Digest, "", registry.Page[registry.Digest]{Limit: 100})
		if err != nil || len(f.Items) != 1 {
			t.Fatal(f, err)
		}
		return fmt.Sprint(r.Items, l.Items, f.Items)
	}
	before := all()
	for _, text := range injections {
		valid := strings.ToValidUTF8(text, "") == text // what is not text gets no further than here
		r, err := c.Repositories(t.Context(), alice, registry.Page[registry.Name]{After: registry.Name(text), Limit: 100})
		if valid || err == nil {
			expectBehind(t, repos, registry.Name(text), r, err)
		}
		l, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{After: registry.Tag(text), Limit: 100})
		if valid || err == nil {
			expectBehind(t, tags, registry.Tag(text), l, err)
		}
		f, err := c.Referrers(t.Context(), alice, "a", subject.Digest, text, registry.Page[registry.Digest]{Limit: 100})
		if len(f.Items) != 0 || valid && err != nil {
			t.Errorf("referrers of type %q: %v, %v", text, f, err)
		}
		f, err = c.Referrers(t.Context(), alice, "a", registry.Digest(text), "", registry.Page[registry.Digest]{Limit: 100})
		if len(f.Items) != 0 || !errors.Is(err, registry.ErrDigestInvalid) {
			t.Errorf("referrers of %q: %v, %v", text, f, err)
		}
		if h, err := c.TagHistory(t.Context(), alice, "a", registry.Tag(text), 100); len(h) != 0 || valid && err != nil {
			t.Errorf("history of %q: %v, %v", text, h, err)
		}
		missing := func(what string, err error, as ...error) {
			t.Helper()
			if err == nil || valid && !slices.ContainsFunc(as, func(e error) bool { return errors.Is(err, e) }) {
				t.Errorf("%s %q: %v", what, text, err)
			}
		}
		_, err = c.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(text)}})
		missing("tag", err, registry.ErrManifestUnknown)
		_, err = c.Manifest(t.Context(), alice, registry.Name(text), registry.ManifestQuery{Ref: registry.Reference{Tag: "latest"}})
		missing("repository", err, registry.ErrNameUnknown)
		_, err = c.Blob(t.Context(), alice, "a", registry.Digest(text))
		missing("blob", err, registry.ErrDigestInvalid)
		_, err = c.Mount(t.Context(), alice, "a", registry.SHA256.FromString("not there"), registry.Name(text))
		missing("mount from", err, registry.ErrBlobUnknown)
		missing("removing tag", c.DeleteTag(t.Context(), alice, "a", registry.Tag(text), registry.Condition{}), registry.ErrManifestUnknown)
		missing("unlinking from", c.Unlink(t.Context(), alice, registry.Name(text), config.Digest), registry.ErrNameUnknown, registry.ErrBlobUnknown)
	}
	if diff := cmp.Diff(before, all()); diff != "" {
		t.Error(diff)
	}
}

// expectBehind compares a page of a list with what is behind an entry.
func expectBehind[T ~string](t *testing.T, all []T, after T, got registry.List[T], err error) {
	t.Helper()
	var want []T
	for _, item := range all {
		if item > after {
			want = append(want, item)
		}
	}
	if !slices.Equal(got.Items, want) || err != nil {
		t.Errorf("behind %q: %v (%v), want %v", after, got.Items, err, want)
	}
}

// builtFrom says what statements may be put together from besides constants, and
// why: none of it comes from outside.
var builtFrom = map[string]string{
	"horizon":                          "one of two texts in the code",
	"movedTables[i].name":              "of a table in the code",
	"t.name":                           "of a table in the code",
	"t.names(t.columns, \"\")":         "columns in the code",
	"t.names(key, \"\")":               "columns in the code",
	"t.names(key, \" DESC\")":          "columns in the code",
	"where":                            "columns in the code and parameters",
	"strings.Join(values, \", \")":     "parameters",
	"table":                            "of a table in the code",
	"sh.Clock":                         "of the dialect",
	"t.names(t.columns[:t.key], \"\")": "columns in the code",
}

var verb = regexp.MustCompile(`(?m)^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP) `)

// Statements are constants, and all that comes from outside is a parameter.
func TestS140StatementsAreConstant(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, dir := range []string{".", "postgres", "sqlite", "../../registry/sqldb"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	constants := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, s := range d.Specs {
					for _, name := range s.(*ast.ValueSpec).Names {
						constants[name.Name] = true
					}
				}
			}
			return true
		})
	}
	used := map[string]bool{}
	check := func(whole ast.Expr, parts []ast.Expr) {
		sql := false
		for _, p := range parts {
			if l, ok := p.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				sql = sql || err == nil && verb.MatchString(text)
			}
		}
		if !sql {
			return
		}
		for _, p := range parts {
			if _, ok := p.(*ast.BasicLit); ok {
				continue
			}
			var b strings.Builder
			if err := printer.Fprint(&b, fset, p); err != nil {
				t.Fatal(err)
			}
			if constants[b.String()] || strings.HasPrefix(b.String(), "sqldb.Placeholders(") {
				continue
			}
			used[b.String()] = true
			if builtFrom[b.String()] == "" {
				t.Errorf("%s: a statement is put together from %s", fset.Position(whole.Pos()), b.String())
			}
		}
	}
	for _, f := range files {
		inner := map[ast.Node]bool{} // part of a longer sum
		ast.Inspect(f, func(n ast.Node) bool {
			switch e := n.(type) {
			case *ast.BinaryExpr:
				if e.Op == token.ADD && !inner[e] {
					check(e, summands(e, inner))
				}
			case *ast.CallExpr:
				if s, ok := e.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Sprintf") || ok && s.Sel.Name == "Fprintf" {
					check(e, e.Args)
				}
			}
			return true
		})
	}
	for what := range builtFrom {
		if !used[what] {
			t.Errorf("nothing is put together from %s any more", what)
		}
	}
}

// summands returns the parts of a sum.
func summands(e ast.Expr, inner map[ast.Node]bool) []ast.Expr {
	b, ok := e.(*ast.BinaryExpr)
	if !ok || b.Op != token.ADD {
		return []ast.Expr{e}
	}
	inner[b] = true
	return append(summands(b.X, inner), summands(b.Y, inner)...)
}
