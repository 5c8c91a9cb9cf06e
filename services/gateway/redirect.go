package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Redirect says which blobs clients are sent to the object store for. The zero
// Redirect sends nobody.
type Redirect struct {
	// Pools are those whose blobs it is about.
	Pools []registry.Pool
	// MinSize is the least size of a blob, in bytes.
	MinSize int64
	// Networks are those of clients, all if there are none.
	Networks []netip.Prefix
	// ExceptNetworks are those of clients that can't reach the object store.
	ExceptNetworks []netip.Prefix
	// ExceptAgents are parts of the User-Agent of clients that can't follow.
	ExceptAgents []string
}

// wants reports whether the request x for the blob s is to be redirected.
func (r *Redirect) wants(x *exchange, s registry.Stored) bool {
	if x.r.Method != http.MethodGet || s.Size < max(r.MinSize, 1) || !slices.Contains(r.Pools, s.Pool) {
		return false
	}
	agent := x.header("User-Agent")
	if slices.ContainsFunc(r.ExceptAgents, func(part string) bool { return strings.Contains(agent, part) }) {
		return false
	}
	if len(r.Networks) == 0 && len(r.ExceptNetworks) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(x.r.RemoteAddr)
	if err != nil {
		return false // a client that is in no network
	}
	in := func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) }
	return (len(r.Networks) == 0 || slices.ContainsFunc(r.Networks, in)) && !slices.ContainsFunc(r.ExceptNetworks, in)
}

// redirect answers with 307 to the object store if that is wanted and can be
// done. The URL is a secret that lets anybody read this one blob: nobody may
// keep it or pass it on.
func (g *Gateway) redirect(x *exchange, s registry.Stored) bool {
	p, ok := g.blobs.(registry.Presigner)
	if !ok || !x.settings.Redirect.wants(x, s) {
		return false
	}
	url, err := p.Presign(x.r.Context(), s)
	if err != nil {
		if !errors.Is(err, registry.ErrUnsupported) {
			g.log.Warn("no URL of the object store: sending the blob instead", slog.Any("error", err))
		}
		return false
	}
	x.w.Header().Del("Content-Range")
	x.set("Cache-Control", unkept)
	x.set("Referrer-Policy", "no-referrer")
	x.set("Location", url)
	x.empty(http.StatusTemporaryRedirect)
	return true
}
