package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/berth-registry/berth/registry"
)

// checkTime is how long the services may take to say that they are well. Probes
// give up after a few seconds themselves.
const checkTime = 3 * time.Second

const plainText = "text/plain; charset=utf-8"

// live answers /livez and /startupz: the process serves. A dead dependency is
// no reason to restart it.
func (g *Gateway) live(x *exchange) error {
	x.set("Cache-Control", "no-store")
	return x.bytes(http.StatusOK, plainText, []byte("ok\n"))
}

// ready answers /readyz: 503 if a service can't serve at all. A store that
// refuses writes still serves reads, so that is said in words; "?writes" makes it
// 503, too. Details of failures are for the log: probes are open to anybody.
func (g *Gateway) ready(x *exchange) error {
	ctx, cancel := context.WithTimeout(x.context(), checkTime)
	defer cancel()
	status, text, readOnly := http.StatusOK, "", ""
	var broken []error
	for _, s := range []struct {
		name    string
		checker registry.Checker
	}{{"blobs", g.blobs}, {"catalog", g.catalog}} {
		h, err := s.checker.Check(ctx)
		switch {
		case err != nil:
			status = http.StatusServiceUnavailable
			text += s.name + ": unavailable\n"
			broken = append(broken, doing("checking "+s.name, err))
		case h.ReadOnly != "":
			readOnly += s.name + ": read-only: " + h.ReadOnly + "\n"
		}
	}
	if !g.wanted() {
		status = http.StatusServiceUnavailable
		text += "gateway: stopping\n"
	}
	if readOnly != "" && x.r.URL.Query().Has("writes") {
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusOK {
		text = "ok\n"
	}
	x.set("Cache-Control", "no-store")
	err := x.bytes(status, plainText, []byte(text+readOnly))
	return errors.Join(errors.Join(broken...), err)
}
