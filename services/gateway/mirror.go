package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/berth-registry/berth/registry"
)

// A mirror is asked only for what the catalog has said that the actor may read.

// unknown reports whether an error says that something is not here.
func unknown(err error) bool {
	return errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrBlobUnknown)
}

// proxied replaces the repository of a request by the one that mirrors it, if the
// client says which registry it means (distribution-spec, "Registry Proxying"): the
// look-up is closed, what is no upstream of ours is unknown. Our own name means
// nothing else than none.
func (g *Gateway) proxied(x *exchange) error {
	ns := x.param("ns")
	if g.mirror == nil || ns == "" || ns == x.settings.Host {
		return nil
	}
	switch x.resource {
	case manifest, blob, referrers, tagList:
		if x.reading() {
			break
		}
		fallthrough
	case uploads, upload:
		return registry.ErrUnsupported.With("content of another registry (ns) can't be changed through its mirror")
	default:
		return nil
	}
	repo, err := g.mirror.Route(x.context(), ns, x.repo)
	if err != nil {
		return doing("looking for the mirror of a registry", err)
	}
	x.set("Oci-Namespace", ns)
	x.repo = repo
	return nil
}

// mirroredManifest answers a query for a manifest with what the mirror says of it. m
// and err are what the catalog said. Who forwards a push wants to know what is here
// itself: it may be the registry that we mirror.
func (g *Gateway) mirroredManifest(x *exchange, q registry.ManifestQuery, m registry.Manifest, err error) (registry.Manifest, error) {
	if g.mirror == nil || err != nil && !unknown(err) || err == nil && q.Ref.Digest != "" || x.header(registry.ViaHeader) != "" {
		return m, err
	}
	local := m.Digest
	if err != nil {
		local = ""
	}
	res, failed := g.mirror.Resolve(x.context(), x.actor, x.repo, q.Ref, local)
	switch {
	case errors.Is(failed, registry.ErrNameUnknown):
		return m, err // no rule
	case failed != nil && local != "":
		g.log.Warn("a mirrored tag is served as it is: the syncer can't be asked", "repository", x.repo, "error", failed)
		x.warn("this may be out of date: the mirror can't be asked")
		return m, nil
	case failed != nil:
		return registry.Manifest{}, failed
	}
	if res.Warning != "" {
		x.warn(res.Warning)
	}
	if res.Digest == local {
		return m, nil
	}
	g.recent.changed(x.repo)
	return g.catalog.Manifest(x.context(), x.actor, x.repo, q)
}

// mirroredBlob answers GET and HEAD of a blob that the catalog does not know, from a
// mirror that fetches it; missing is what the catalog said. To a HEAD the blob stays
// unknown where pushes are taken: who asks before a push would not send it.
func (g *Gateway) mirroredBlob(x *exchange, missing error) error {
	if g.mirror == nil || !unknown(missing) {
		return missing
	}
	ctx := x.context()
	part, status := registry.Whole, http.StatusOK
	rh := x.header("Range")
	if x.r.Method == http.MethodHead {
		switch c, err := g.covers(ctx, x.repo); {
		case err != nil:
			return doing("looking for a mirror rule", err)
		case c.Rule == "" || c.Claimed || c.Push != registry.PushDeny:
			return missing
		}
	}
	tag := etag(x.ref.Digest)
	ranged := rh != "" && x.r.Method == http.MethodGet && ifRange(x.header("If-Range"), tag)
	size := int64(-1)
	if ranged || x.r.Method == http.MethodHead {
		var err error
		if size, err = g.mirror.Stat(ctx, x.actor, x.repo, x.ref.Digest); err != nil {
			return mirrorError("asking for the size of a mirrored blob", err, missing)
		}
	}
	if ranged {
		parts, err := x.parseRange(rh, size)
		if err != nil {
			return err
		}
		if len(parts) == 1 { // several would each wait for the other
			part, status = parts[0], http.StatusPartialContent
		}
	}
	x.set("Docker-Content-Digest", string(x.ref.Digest))
	x.set("Etag", tag)
	x.set("Cache-Control", immutable)
	if x.r.Method == http.MethodHead {
		x.blobHeader(status, octets, size)
		return nil
	}
	content, err := g.mirror.Open(ctx, x.actor, x.repo, x.ref.Digest, part)
	if err != nil {
		return mirrorError("opening a mirrored blob", err, missing)
	}
	defer content.Close()
	if status == http.StatusPartialContent {
		x.set("Content-Range", contentRange(part, size))
	}
	x.blobHeader(status, octets, content.Size())
	return doing("sending a mirrored blob", x.send(content, content.Size()))
}

// mirrorError returns the error of a mirror, or what the catalog said if no rule
// covers the repository.
func mirrorError(what string, err, missing error) error {
	if errors.Is(err, registry.ErrNameUnknown) {
		return missing
	}
	return doing(what, err)
}

// mayPush refuses pushes into repositories that only a mirror fills.
func (g *Gateway) mayPush(x *exchange) (registry.Coverage, error) {
	if g.mirror == nil {
		return registry.Coverage{}, nil
	}
	c, err := g.covers(x.context(), x.repo)
	if err != nil {
		return c, doing("looking for a mirror rule", err)
	}
	if c.Push == registry.PushDeny {
		return c, registry.ErrDenied.With("this repository is a mirror of %s and takes no pushes", c.Rule)
	}
	return c, nil
}

// mayForward asks what a rule says of a repository, for a removal: nothing, if no rule is
// known that could pass it on.
func (g *Gateway) mayForward(ctx context.Context, repo registry.Name) (registry.Coverage, error) {
	if g.mirror == nil || g.coverage.keeps(repo) {
		return registry.Coverage{}, nil
	}
	c, err := g.covers(ctx, repo)
	return c, doing("looking for a mirror rule", err)
}

// mayChange reports whether who asks may do some of want in the repository, as far as that
// is known before the change itself is: conditions are for that.
func (g *Gateway) mayChange(ctx context.Context, x *exchange, want registry.Actions) (bool, error) {
	who := x.actor
	who.Request = nil
	may, err := g.catalog.Allowed(ctx, who, x.repo, want)
	return may != registry.NoActions, doing("asking who may change a repository", err)
}

// announced stores a manifest by put, or removes one, and sees to it that the push is passed on to
// other registries if a rule wants that. What the catalog is sure to refuse is not announced:
// it would be written down, and its tags owed, for everybody who asks.
func (g *Gateway) announced(ctx context.Context, x *exchange, c registry.Coverage, p registry.AnnouncedPush, put func() error) error {
	if !c.Forward {
		return put()
	}
	want := registry.ActCreate | registry.ActUpdate
	if p.Deletion {
		want = registry.ActDelete
	}
	switch may, err := g.mayChange(ctx, x, want); {
	case err != nil:
		return err
	case !may:
		return put() // which says why
	}
	p.Via = x.header(registry.ViaHeader)
	receipt, err := g.mirror.Announce(ctx, x.actor, x.repo, p)
	if err != nil {
		return doing("announcing a push that is to be forwarded", err)
	}
	failed := put()
	if receipt == "" {
		return failed
	}
	// Who stored it does not fail because of this: the syncer looks for itself then.
	// What the catalog may have stored without saying so it has to look for, too.
	unsure := errors.Is(failed, registry.ErrUnavailable) || errors.Is(failed, registry.ErrCanceled) || failed != nil && registry.AsError(failed).Code == registry.Internal
	if !unsure {
		if err := g.mirror.Settle(ctx, receipt, failed == nil); err != nil {
			g.log.Warn("the syncer was not told what became of a push that it forwards", "repository", x.repo, "error", err)
		}
	}
	return failed
}

// pushed tells the mirror that a repository has content of ours.
func (g *Gateway) pushed(ctx context.Context, x *exchange) error {
	if g.mirror == nil {
		return nil
	}
	c, err := g.covers(ctx, x.repo)
	if err != nil || c.Rule == "" || c.Claimed || c.Push == registry.PushForward {
		return doing("looking for a mirror rule", err)
	}
	return doing("noting a push into a mirrored repository", g.mirror.Claim(ctx, x.actor, x.repo))
}

// fetchReferrers brings what refers to a manifest from upstream, for who may see it.
func (g *Gateway) fetchReferrers(x *exchange) error {
	if g.mirror == nil {
		return nil
	}
	ctx := x.context()
	c, err := g.covers(ctx, x.repo)
	if err != nil || c.Rule == "" || c.Claimed {
		return nil //nolint:nilerr // what is here is listed
	}
	if _, err := g.catalog.Referrers(ctx, x.actor, x.repo, x.ref.Digest, "", registry.Page[registry.Digest]{Limit: 1}); err != nil {
		return err
	}
	if err := g.mirror.FetchReferrers(ctx, x.actor, x.repo, x.ref.Digest); err != nil && !unknown(err) {
		g.log.Warn("referrers could not be fetched", "repository", x.repo, "error", err)
	}
	return nil
}
