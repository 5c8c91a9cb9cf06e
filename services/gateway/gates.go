package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"

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
	content := m.Bytes
	if content == nil {
		if stored, err := g.catalog.Manifest(x.context(), x.actor, x.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}}); err == nil {
			content = stored.Bytes
		}
	}
	if saysOfAnother(content) {
		return nil
	}
	v, err := ga.Decide(x.context(), x.actor, x.repo, m.Digest)
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

// statements are the types of layers that say something of an image, and are none:
// signatures, attestations and bills of materials.
var statements = []string{
	"application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json", "application/vnd.in-toto+json", "application/jose+json", "application/cose",
	"application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2",
	"text/spdx", "text/spdx+json", "application/spdx+json", "application/vnd.cyclonedx", "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+xml", "application/vnd.syft+json",
}

// saysOfAnother reports whether a manifest has nothing in it but statements. What it
// says of itself does not count: no client runs those layers.
func saysOfAnother(content []byte) bool {
	var m struct {
		Layers    []registry.Descriptor `json:"layers"`
		Manifests json.RawMessage       `json:"manifests"`
	}
	if err := json.Unmarshal(content, &m); err != nil || len(m.Layers) == 0 || m.Manifests != nil {
		return false
	}
	return !slices.ContainsFunc(m.Layers, func(l registry.Descriptor) bool { return !slices.Contains(statements, l.MediaType) })
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
	b := x.open(g.cfg.ReadIdle, -1)
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
