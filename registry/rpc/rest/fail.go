package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-registry/berth/registry"
)

// errorJSON is message Error of api.proto.
type errorJSON struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// fail answers with an error. It is the only place where one becomes an answer.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	e := clientError(ctx, err)
	if e.Code.Kind() == registry.Fault || e.Err != nil {
		h.log.WarnContext(ctx, "API request failed", "method", r.Method, "path", clip(r.URL.Path), "code", e.Code.String(), "error", err.Error())
	}
	if e.Code == registry.TooManyRequests || e.Code.Kind() == registry.Passing {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfterSeconds(5)))
	}
	item := errorJSON{Code: e.Code.String(), Message: e.Text(), Detail: e.Detail}
	b, jsonErr := json.Marshal(item)
	if jsonErr != nil { // a detail that isn't JSON
		item.Detail = nil
		b, _ = json.Marshal(item)
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(httpStatus(e.Code))
	_, _ = w.Write(b) // nobody is left to tell
}

// httpStatus returns the status for a code: the table's, with two exceptions.
// Content in use the table answers as zot's clients know it; and 401 would have
// to come with a challenge, while nobody can log in here.
func httpStatus(c registry.Code) int {
	switch c {
	case registry.InUse:
		return http.StatusConflict
	case registry.Unauthorized:
		return http.StatusForbidden
	}
	return c.HTTP()
}

// clientError returns what the client is told about err. A status is the mux's
// own, which speaks of a request that it can't decode.
func clientError(ctx context.Context, err error) *registry.Error {
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return e
	}
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return registry.ErrCanceled.Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return registry.ErrUnavailable.Because(err)
	case status.Code(err) == codes.InvalidArgument:
		return registry.ErrParameterInvalid.Because(err)
	}
	return registry.AsError(err)
}
