package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/berth-registry/berth/registry"
)

// errorJSON is the body of an error (distribution-spec, "Error Codes").
type errorJSON struct {
	Errors []errorItem `json:"errors"`
}

type errorItem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// fail answers with an error. It is the only place where one becomes an answer.
func (g *Gateway) fail(x *exchange, err error) {
	e := clientError(x.context(), err)
	h := x.w.Header()
	for _, content := range []string{"Etag", "Content-Disposition", "Content-Security-Policy", "Accept-Ranges"} {
		delete(h, content)
	}
	x.set("Cache-Control", unkept) // what is missing now may be pushed
	switch {
	case e.Code == registry.Unauthorized:
		if challenge := g.challenge(x); challenge != "" {
			x.set("Www-Authenticate", challenge)
		}
	case e.Code == registry.TooManyRequests, e.Code.Kind() == registry.Passing:
		if h.Get("Retry-After") == "" {
			x.set("Retry-After", strconv.Itoa(e.RetryAfterSeconds(5)))
		}
	}
	if x.r.Method == http.MethodHead {
		x.set("Content-Type", "application/json")
		x.start(e.Code.HTTP())
		return
	}
	item := errorItem{Code: e.Code.OCI(), Message: e.Text(), Detail: e.Detail}
	b, jsonErr := json.Marshal(errorJSON{[]errorItem{item}})
	if jsonErr != nil { // a detail that isn't JSON
		item.Detail = nil
		b, _ = json.Marshal(errorJSON{[]errorItem{item}})
	}
	_ = x.bytes(e.Code.HTTP(), "application/json", append(b, '\n')) // nobody is left to tell
}

// clientError returns what the client is told about err. A context that ended is
// the client's doing if the request's did, else a deadline of ours.
func clientError(ctx context.Context, err error) *registry.Error {
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return e
	}
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return registry.ErrCanceled.Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return registry.ErrUnavailable.Because(err)
	}
	return registry.AsError(err)
}
