package gateway

import (
	"net/http"

	"github.com/berth-registry/berth/registry"
)

// passOn lets the REST API answer. Nothing of the gateway's own is in the answer:
// no header that lets scripts of other sites read it, above all.
func (g *Gateway) passOn(x *exchange) error {
	w := &restWriter{x: x}
	ctx := x.context()
	if x.known {
		ctx = registry.WithActor(ctx, x.actor)
	}
	g.rest.ServeHTTP(w, x.handOver(ctx))
	if !x.reading() {
		g.recent.changed("")
	}
	return w.err
}

// restWriter is an exchange as a handler of net/http sees it, so that its answer
// is logged, and timed out, as others are.
type restWriter struct {
	x   *exchange
	err error // of the first write that failed
}

func (w *restWriter) Header() http.Header { return w.x.w.Header() }

func (w *restWriter) WriteHeader(status int) {
	if w.x.status == 0 {
		w.x.start(status)
	}
}

func (w *restWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.err == nil {
		w.err = w.x.write(b)
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(b), nil
}
