package gateway

import (
	"context"
	"io"
	"net/http"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/trust"
	"github.com/berth-registry/berth/services/gateway/gate"
)

// SetGate has pulls that begin from now on decided by another gate; nil: by none.
func (g *Gateway) SetGate(to *gate.Gate) { g.gate.Store(to) }

// gateOf returns the gate that a config file describes.
func gateOf(c *config.Config, d Deps) (*gate.Gate, error) {
	return gate.New(c, gate.Deps{Catalog: d.Catalog, Blobs: d.Blobs, Scans: d.Scans})
}

// admitPull returns [registry.ErrDenied] if a gate blocks the manifest m, which the
// actor may read. Who only asks whether it is there (HEAD) is answered: the text that
// tells why comes with the answer to GET.
func (g *Gateway) admitPull(x *exchange, m registry.Manifest) error {
	ga := g.gate.Load()
	if x.r.Method == http.MethodHead || !ga.Covers(x.repo) {
		return nil
	}
	v, err := ga.Judge(x.context(), x.actor, x.actor, x.repo, m)
	if err != nil {
		return doing("deciding whether an image may be pulled", err)
	}
	for _, w := range v.Warnings {
		x.warn(w)
	}
	if v.Denied != "" {
		return registry.ErrDenied.With("this image can't be pulled: %s (`berth why %s` tells more)", v.Denied, x.named())
	}
	return nil
}

// policy is what the gate of the moment says, for the APIs beside pulls.
type policy struct{ g func() *gate.Gate }

// Judge implements [registry.Policy].
func (p policy) Judge(ctx context.Context, a, whom registry.Actor, repo registry.Name, d registry.Digest) (registry.PullVerdict, error) {
	return p.g().Judge(ctx, a, whom, repo, registry.Manifest{Digest: d})
}

// Signatures implements [registry.Policy].
func (p policy) Signatures(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Signature, error) {
	if ga := p.g(); len(ga.Tools()) > 0 {
		return ga.SignaturesOf(ctx, a, repo, d)
	}
	return nil, nil
}

// trustCosign answers POST /v2/_zot/ext/cosign: a public key, PEM, is trusted from
// now on.
func (g *Gateway) trustCosign(x *exchange) error {
	return g.addTrusted(x, registry.TrustedKey{Tool: registry.ToolCosign})
}

// trustNotation answers POST /v2/_zot/ext/notation: certificates, PEM, are trusted
// from now on.
func (g *Gateway) trustNotation(x *exchange) error {
	store := x.param("truststoreType")
	if store == "" {
		store = trust.StoreCA
	}
	return g.addTrusted(x, registry.TrustedKey{Tool: registry.ToolNotation, Store: store})
}

func (g *Gateway) addTrusted(x *exchange, k registry.TrustedKey) error {
	if !g.gate.Load().Verifies(k.Tool) {
		return registry.ErrEndpointUnknown.With("signatures of %s are not verified here (extensions.trust.%s)", k.Tool, k.Tool)
	}
	b := x.open(x.settings.ReadIdle, -1)
	content, err := io.ReadAll(io.LimitReader(b, registry.MaxTrustedPEM+1))
	switch {
	case err != nil:
		return doing("reading a key", b.cause(err))
	case len(content) > registry.MaxTrustedPEM:
		return registry.ErrTooLarge.With("a key has at most %d bytes", registry.MaxTrustedPEM)
	}
	k.PEM = string(content)
	// Who may not learns nothing of what a key should look like; the catalog decides.
	if bad := trust.Check(k); bad != nil {
		if _, err := g.catalog.Sinks(x.context(), x.actor); err != nil {
			return doing("trusting a key", err)
		}
		return bad
	}
	if err := g.catalog.AddTrusted(x.context(), x.actor, k); err != nil {
		return doing("trusting a key", err)
	}
	g.gate.Load().Forget()
	x.empty(http.StatusOK)
	return nil
}
