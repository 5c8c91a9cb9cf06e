package search

import (
	"bytes"
	"context"
	_ "embed" // the schema
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/trust"
)

//go:embed schema.graphql
var schemaText string

// Catalog is what queries are answered from.
type Catalog interface {
	registry.Search
	// Referrers is that of [registry.Manifests].
	Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error)
}

// Options configure a [Handler].
type Options struct {
	Catalog Catalog
	// Scans knows what is in images. nil: nobody does.
	Scans registry.Scans
	// Closed says that users are known by name, so that those who are not are strangers:
	// they don't get to read the schema, and may ask for less at once.
	Closed func() bool
	// Signatures tells who signed what. nil, or an answer without any: nobody verifies.
	Signatures SignaturesOf
	Log        *slog.Logger
}

// SignaturesOf tells of the signatures of a manifest that an actor may read.
type SignaturesOf = func(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]trust.Signature, error)

// Handler answers GraphQL queries: GET with the parameter query, POST with JSON. The
// request's context says on whose behalf, see [registry.WithActor].
type Handler struct {
	schema  *ast.Schema
	catalog Catalog
	scans   registry.Scans
	signed  SignaturesOf
	closed  func() bool
	log     *slog.Logger
}

// How many results one query may ask for, in pages of at most so many; see cost.
const (
	roomOfStrangers = 1000
	roomOfUsers     = 10_000
)

// timeLimit is how long a query may take.
const timeLimit = 30 * time.Second

// New returns a handler.
func New(o Options) (*Handler, error) {
	schema, err := gqlparser.LoadSchema(&ast.Source{Name: "schema.graphql", Input: schemaText})
	if err != nil {
		return nil, err
	}
	h := &Handler{schema: schema, catalog: o.Catalog, scans: o.Scans, signed: o.Signatures, closed: o.Closed, log: o.Log}
	if h.closed == nil {
		h.closed = func() bool { return false }
	}
	return h, nil
}

// Open is New with its options as parameters, for a gateway.
func Open(catalog registry.Catalog, scans registry.Scans, closed func() bool, signatures SignaturesOf, log *slog.Logger) (http.Handler, error) {
	return New(Options{Catalog: catalog, Scans: scans, Closed: closed, Signatures: signatures, Log: log})
}

// question is a GraphQL request.
type question struct {
	Query     string         `json:"query"`
	Operation string         `json:"operationName"`
	Variables map[string]any `json:"variables"`
}

// ServeHTTP implements [http.Handler]: 200 for whatever could be answered in part, 422
// for what does not fit the schema, 400 for what nobody reads.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := read(r)
	if err != nil {
		answer(w, http.StatusBadRequest, nil, gqlerror.List{gqlerror.Wrap(err)})
		return
	}
	actor, _ := registry.ActorFrom(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), timeLimit)
	defer cancel()
	status, data, errs := h.answer(ctx, actor, q)
	answer(w, status, data, errs)
}

func answer(w http.ResponseWriter, status int, data []byte, errs gqlerror.List) {
	head := []byte("{")
	if len(errs) > 0 {
		b, err := json.Marshal(errs)
		if err != nil {
			b = []byte(`[{"message":"the errors can't be written"}]`)
		}
		head = fmt.Appendf(head, `"errors":%s,`, b)
	}
	if data == nil {
		data = []byte("null")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// data may be large: it is not copied. Nobody is left to tell of an error.
	for _, part := range [][]byte{append(head, `"data":`...), data, []byte("}\n")} {
		_, _ = w.Write(part)
	}
}

// read reads the request.
func read(r *http.Request) (q question, err error) {
	if r.Method != http.MethodPost {
		p := r.URL.Query()
		q.Query, q.Operation = p.Get("query"), p.Get("operationName")
		if v := p.Get("variables"); v != "" {
			err = unmarshal([]byte(v), &q.Variables)
		}
	} else {
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1)); err == nil && len(b) > maxBody {
			err = errors.New("the request is too large")
		}
		if err == nil {
			err = unmarshal(b, &q)
		}
	}
	if err != nil {
		return q, errors.New("the request is no GraphQL query in JSON: " + err.Error())
	}
	if q.Query == "" {
		return q, errors.New("there is no query")
	}
	return q, nil
}

func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

// answer answers a question.
func (h *Handler) answer(ctx context.Context, a registry.Actor, q question) (status int, data []byte, errs gqlerror.List) {
	doc, err := parse(q.Query)
	if err != nil {
		return http.StatusBadRequest, nil, listOf(err)
	}
	stranger := a.Anonymous() && h.closed()
	if stranger && slices.ContainsFunc(doc.Operations, func(op *ast.OperationDefinition) bool { return introspects(doc, op.SelectionSet) }) {
		return http.StatusBadRequest, nil, listOf(errors.New("log in to read the schema"))
	}
	if errs := validator.ValidateWithRules(h.schema, doc, nil); len(errs) > 0 {
		return http.StatusUnprocessableEntity, nil, errs[:min(len(errs), maxErrors)]
	}
	op := doc.Operations.ForName(q.Operation)
	if op == nil || op.Operation != ast.Query {
		return http.StatusUnprocessableEntity, nil, listOf(errors.New("there is no such query"))
	}
	vars, err := validator.VariableValues(h.schema, op, q.Variables)
	if err != nil {
		return http.StatusUnprocessableEntity, nil, listOf(err)
	}
	s := &session{h: h, actor: a, room: roomOfUsers, counts: make(map[registry.Digest]registry.SeverityCounts)}
	if stranger {
		s.room = roomOfStrangers
	}
	e := &execution{schema: h.schema, doc: doc, vars: vars, fail: h.tell}
	e.run(ctx, op, queryValue{s})
	return http.StatusOK, e.out.Bytes(), e.errors
}

// listOf returns the errors of gqlparser that err is.
func listOf(err error) gqlerror.List {
	if list, ok := errors.AsType[gqlerror.List](err); ok {
		return list[:min(len(list), maxErrors)]
	}
	if e, ok := errors.AsType[*gqlerror.Error](err); ok {
		return gqlerror.List{e}
	}
	return gqlerror.List{&gqlerror.Error{Message: err.Error()}}
}

// tell returns what a client is told of an error.
func (h *Handler) tell(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the query takes too long"
	}
	e := registry.AsError(err)
	if e.Code.Kind() == registry.Fault && h.log != nil {
		h.log.Warn("answering a search", "error", err)
	}
	return e.Text()
}
