package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// monitorCheck is how long a service may take to say that it is well.
const monitorCheck = 3 * time.Second

// Monitor returns a unit that serves metrics, at /metrics, and probes, at /livez
// and /readyz, of a process that speaks no HTTP otherwise. It listens on address
// when it returns, with TLS if secure is not nil. check says whether the service
// can do its work; what is wrong is for the log, not for who asks. With address
// "" the unit does nothing.
func Monitor(ctx context.Context, address string, secure *tls.Config, p Process, check func(context.Context) error) (Unit, error) {
	if address == "" {
		return Unit{Name: "monitor"}, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return Unit{}, fmt.Errorf("listening for metrics and probes: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.Metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), monitorCheck)
		defer cancel()
		if !p.Ready.Ready() {
			say(w, http.StatusServiceUnavailable, "stopping")
		} else if err := check(ctx); err != nil {
			p.Log.WarnContext(ctx, "not ready", "error", err.Error())
			say(w, http.StatusServiceUnavailable, "unavailable")
		} else {
			say(w, http.StatusOK, "ok")
		}
	})
	p.Log.Info("listening for metrics and probes", "address", l.Addr().String(), "tls", secure != nil)
	unit := HTTP("monitor", l, &http.Server{
		Handler:           mux,
		TLSConfig:         secure,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	})
	unit.Abandon = l.Close
	return unit, nil
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // nobody is left to tell
}
