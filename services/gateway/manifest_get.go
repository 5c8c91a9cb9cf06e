package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/registry"
)

// manifestGet answers GET and HEAD of a manifest. Whatever the client says to
// accept, it gets what is stored: a 404 for a manifest that exists misleads, and
// a 406 helps nobody. A Range is ignored, as RFC 9110 §14.2 allows.
func (g *Gateway) manifestGet(x *exchange) error {
	head := x.r.Method == http.MethodHead
	q := registry.ManifestQuery{Ref: x.ref, NoBytes: head}
	var have []byte
	if !head {
		q.Have, have = g.manifests.guess(x.repo, x.ref)
	}
	m, known := g.recent.manifest(x.actor, x.repo, q)
	if !known {
		var err error
		when := g.recent.askNow()
		m, err = g.catalog.Manifest(x.context(), x.actor, x.repo, q)
		if m, err = g.mirroredManifest(x, q, m, err); err != nil {
			return doing("resolving a manifest", err)
		}
		g.recent.keepManifest(x.actor, x.repo, x.ref, m, when)
	}
	if err := g.admitPull(x, m); err != nil {
		return err
	}
	tag := etag(m.Digest)
	x.set("Docker-Content-Digest", string(m.Digest))
	x.set("Etag", tag)
	if x.ref.Digest != "" {
		x.set("Cache-Control", immutable)
	} else {
		x.set("Cache-Control", revalidated)
	}
	if matchesNone(x.r.Header["If-None-Match"], tag) {
		x.empty(http.StatusNotModified)
		if !head { // the client has it, and uses it still
			g.pulls.add(x.repo, x.ref, m.Digest, x.actor, time.Now())
		}
		return nil
	}
	if !head {
		if m.Bytes == nil && m.Digest == q.Have {
			m.Bytes = have
		}
		if int64(len(m.Bytes)) != m.Size {
			return registry.ErrInternal.With("the catalog sent %d bytes of a manifest of %d", len(m.Bytes), m.Size)
		}
		if have == nil || m.Digest != q.Have {
			g.meters.cacheMisses.Inc()
			g.manifests.add(x.repo, x.ref, m)
		} else {
			g.meters.cacheHits.Inc()
		}
	}
	x.set("Content-Type", m.MediaType)
	x.length(m.Size)
	x.start(http.StatusOK)
	if err := x.write(m.Bytes); err != nil || head {
		return err
	}
	g.pulls.add(x.repo, x.ref, m.Digest, x.actor, time.Now())
	return nil
}

// manifestDelete answers DELETE of a tag, or of a manifest with all its tags.
func (g *Gateway) manifestDelete(x *exchange) error {
	ctx := x.context()
	tags := 0
	if x.ref.Tag != "" {
		tags = 1
	}
	cond, err := g.condition(x, tags)
	if err != nil {
		return err
	}
	covered, err := g.mayForward(ctx, x.repo)
	if err != nil {
		return err
	}
	p := registry.AnnouncedPush{Digest: x.ref.Digest, Deletion: true}
	if tags > 0 {
		p.Tags = []registry.Tag{x.ref.Tag}
	}
	if covered.Forward {
		var cancel context.CancelFunc
		ctx, cancel = finish(ctx)
		defer cancel()
	}
	err = g.announced(ctx, x, covered, p, func() error {
		if tags > 0 {
			return g.catalog.DeleteTag(ctx, x.actor, x.repo, x.ref.Tag, cond)
		}
		return g.catalog.DeleteManifest(ctx, x.actor, x.repo, x.ref.Digest)
	})
	g.recent.changed(x.repo)
	if err != nil {
		return doing("deleting a manifest", err)
	}
	x.empty(http.StatusAccepted)
	return nil
}
