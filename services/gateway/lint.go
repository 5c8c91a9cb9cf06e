package gateway

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/gate"
)

// maxImageConfig is how many bytes of an image's configuration are read for its
// labels. One that is larger counts as one without labels.
const maxImageConfig = registry.MaxManifest

// lintOf returns the annotations that a config file wants images to have.
func lintOf(c *config.Config) []string {
	if e := c.Extensions; e != nil && e.Lint.Enabled() {
		return e.Lint.MandatoryAnnotations
	}
	return nil
}

// SetLint has pushes of images that begin from now on refused unless they have each
// of the annotations: as annotation of the manifest, or as label in its
// configuration.
func (g *Gateway) SetLint(annotations []string) { g.mandatory.Store(&annotations) }

// lint returns [registry.ErrManifestInvalid] for an image that lacks an annotation.
// Indexes and signatures need none, as in zot.
func (g *Gateway) lint(x *exchange, put registry.ManifestPut) error {
	mandatory := g.mandatory.Load()
	if mandatory == nil || len(*mandatory) == 0 || put.MediaType != registry.TypeManifest && put.MediaType != registry.TypeDockerManifest {
		return nil
	}
	var m struct {
		ArtifactType string              `json:"artifactType"`
		Annotations  map[string]string   `json:"annotations"`
		Config       registry.Descriptor `json:"config"`
	}
	if err := json.Unmarshal(put.Bytes, &m); err != nil {
		return nil //nolint:nilerr // the catalog says what is wrong with it
	}
	if isSignature(x.ref.Tag, m.ArtifactType) {
		return nil
	}
	missing := slices.DeleteFunc(slices.Clone(*mandatory), func(key string) bool { _, ok := m.Annotations[key]; return ok })
	if len(missing) > 0 {
		labels, err := g.labels(x.context(), x, m.Config.Digest)
		if err != nil {
			return doing("reading the labels of an image", err)
		}
		missing = slices.DeleteFunc(missing, func(key string) bool { _, ok := labels[key]; return ok })
	}
	if len(missing) == 0 {
		return nil
	}
	// Who may not push is told that, and nothing of what images need.
	if _, err := g.catalog.Admit(x.context(), x.actor, x.repo); err != nil {
		return doing("refusing an image without annotations", err)
	}
	g.lintFailed(x, put)
	list := strings.Join(missing, ", ")
	e := registry.ErrManifestInvalid.With("images need annotations or labels here that this one lacks: %s", list)
	return e.Detailed(map[string]string{"missingAnnotations": list, "reference": x.ref.String()})
}

// lintFailed announces that an image was refused. Nothing depends on that.
func (g *Gateway) lintFailed(x *exchange, put registry.ManifestPut) {
	at := time.Now().UnixMicro()
	e := registry.Announcement{
		ID: registry.NewAuditID(at), Type: registry.ImageLintFailed, At: at, Repo: x.repo, Reference: x.ref.String(), Digest: put.Digest, MediaType: put.MediaType,
		Actor: x.actor.ID, Address: x.asks.ClientIP, Method: x.r.Method, Agent: x.asks.UserAgent,
	}
	if text, err := json.Marshal(string(put.Bytes)); err == nil && len(text) < registry.MaxAnnouncement {
		e.Data = map[string]json.RawMessage{"manifest": text}
	}
	if err := g.catalog.Announce(x.context(), []registry.Announcement{e}); err != nil {
		g.log.Warn("an event could not be recorded", "type", e.Type, "error", err)
	}
}

// cosignTag is the form of tags that cosign attaches to an image: signatures,
// attestations and bills of materials.
var cosignTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}\.(sig|att|sbom)$`)

// isSignature reports whether a manifest is no image but says something of one.
func isSignature(tag registry.Tag, artifactType string) bool {
	return cosignTag.MatchString(string(tag)) || strings.HasPrefix(artifactType, "application/vnd.dev.cosign.") ||
		strings.HasPrefix(artifactType, "application/vnd.dev.sigstore.bundle") || artifactType == "application/vnd.cncf.notary.signature"
}

// labels returns the labels of the image configuration with digest d. What is not
// there, too large or no configuration has none.
func (g *Gateway) labels(ctx context.Context, x *exchange, d registry.Digest) (map[string]string, error) {
	content, err := gate.Small(ctx, g.catalog, g.blobs, x.actor, x.repo, d, maxImageConfig)
	if err != nil {
		return nil, err
	}
	var image struct {
		Config struct {
			Labels map[string]string
		} `json:"config"`
	}
	if json.Unmarshal(content, &image) != nil {
		return nil, nil
	}
	return image.Config.Labels, nil
}
