package rest

import (
	"bytes"
	"context"
	_ "embed" // for the OpenAPI document
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// Base is the path that the API is served at and below.
const Base = "/api/v1"

// OpenAPI is the description of the API (OpenAPI 2.0), served at
// [Base]/openapi.json.
//
//go:embed openapi/v1.swagger.json
var OpenAPI []byte

// Options are what the API answers from.
type Options struct {
	Blobs   registry.Checker
	Catalog registry.Catalog
	// Mirror is what requests about mirrors are for. nil: they are refused.
	Mirror registry.Mirror
	// Scans is what requests about vulnerabilities are for. nil: they are refused.
	Scans registry.Scans
	// Policy says what may be pulled. nil: everything.
	Policy registry.Policy
	// Log gets the errors that clients are not told. nil: nowhere.
	Log *slog.Logger
}

// Handler returns the API as a handler for the requests at [Base] and below.
func Handler(o Options) (http.Handler, error) {
	if o.Blobs == nil || o.Catalog == nil {
		return nil, errors.New("rest: Options lacks Blobs or Catalog")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Policy == nil {
		o.Policy = unguarded{}
	}
	h := &handler{log: o.Log}
	h.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true},
		}),
		runtime.WithMiddlewares(h.check),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			h.fail(w, r, err)
		}),
		runtime.WithRoutingErrorHandler(h.noRoute),
		runtime.WithDisablePathLengthFallback(), // no GET in the clothes of a POST
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	if err := apiv1.RegisterRegistryServiceHandlerServer(context.Background(), h.mux, &server{blobs: o.Blobs, catalog: o.Catalog, mirror: o.Mirror, scans: o.Scans, policy: o.Policy}); err != nil {
		return nil, fmt.Errorf("making the REST API: %w", err)
	}
	return h, nil
}

const openapiPath = Base + "/openapi.json"

// handler is the whole API.
type handler struct {
	mux *runtime.ServeMux
	log *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := admit(r); err != nil {
		h.fail(w, r, err)
		return
	}
	if r.ContentLength != 0 {
		if r.URL.Path != reviewPath || r.Method != http.MethodPost {
			h.fail(w, r, registry.ErrParameterInvalid.With("the API takes no request bodies here"))
			return
		}
		body, err := readBody(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if r.URL.Path == openapiPath {
		h.openapi(w, r)
		return
	}
	// The mux gives meaning to headers (Grpc-Metadata-*, Grpc-Timeout, TE, Accept),
	// so it gets none.
	in := r.Clone(r.Context())
	in.Header = http.Header{}
	switch in.Method {
	case http.MethodHead:
		in.Method = http.MethodGet // whoever sends the answer leaves its body out
	case http.MethodOptions:
		if !h.allow(w, in) {
			h.fail(w, r, errNoPath)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.mux.ServeHTTP(w, in)
}

// readBody returns the body of a request, one JSON value: whoever takes it apart later
// would not mind what follows it.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, registry.MaxRulesBytes+1))
	switch {
	case err != nil:
		return nil, registry.ErrParameterInvalid.With("the body ends too early").Because(err)
	case len(b) > registry.MaxRulesBytes:
		return nil, registry.ErrTooLarge.With("the body has at most %d bytes", registry.MaxRulesBytes)
	case !json.Valid(b):
		return nil, registry.ErrParameterInvalid.With("the body is no JSON value")
	}
	return b, nil
}

// openapi answers with the description of the API.
func (h *handler) openapi(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(OpenAPI)))
		_, _ = w.Write(OpenAPI) // the client may be gone
	case http.MethodOptions:
		w.Header().Set("Allow", readable)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", readable)
		h.fail(w, r, registry.ErrUnsupported.With("method not allowed here; allowed: %s", readable))
	}
}

const readable = "GET, HEAD, OPTIONS"

// asking marks a request that only asks for the Allow header of its path.
type asking struct{}

// allow sets the Allow header of a path; false if there is no such path.
func (h *handler) allow(w http.ResponseWriter, r *http.Request) bool {
	r = r.Clone(context.WithValue(r.Context(), asking{}, true))
	for _, r.Method = range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		h.mux.ServeHTTP(headerOnly{w}, r)
		if w.Header().Get("Allow") != "" {
			return true
		}
	}
	return false
}

var errNoPath = registry.ErrEndpointUnknown.With("there is no such path in this API; %s lists those there are", openapiPath)

// check is what requests with a handler pass before it. It refuses parameters
// that grpc-gateway would ignore, or explain in words of its own.
func (h *handler) check(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		e := documented()[untemplate(pattern)]
		if r.Context().Value(asking{}) != nil {
			w.Header().Set("Allow", e.allow())
			return
		}
		if err := checkQuery(e[strings.ToLower(r.Method)].Parameters, r.URL.RawQuery); err != nil {
			h.fail(w, r, err)
			return
		}
		next(w, r, path)
	}
}

// noRoute answers what the mux has no handler for.
func (h *handler) noRoute(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	if r.Context().Value(asking{}) != nil {
		return
	}
	if status != http.StatusMethodNotAllowed || !h.allow(w, r) {
		h.fail(w, r, errNoPath)
		return
	}
	h.fail(w, r, registry.ErrUnsupported.With("method not allowed here; allowed: %s", w.Header().Get("Allow")))
}

// headerOnly lets a handler set headers and nothing else.
type headerOnly struct{ http.ResponseWriter }

func (headerOnly) WriteHeader(int)             {}
func (headerOnly) Write(b []byte) (int, error) { return len(b), nil }
