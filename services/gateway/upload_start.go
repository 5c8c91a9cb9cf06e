package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/berth-registry/berth/registry"
)

// uploadStart answers POST /v2/<name>/blobs/uploads/ in its three forms: mount
// a blob of another repository, take a whole blob in the body, open a session.
func (g *Gateway) uploadStart(x *exchange) error {
	ctx := x.context()
	pool, err := g.catalog.Admit(ctx, x.actor, x.repo)
	if err != nil {
		return doing("admitting an upload", err)
	}
	if _, err := g.mayPush(x); err != nil {
		return err
	}
	var want registry.Digest
	var alg registry.Algorithm
	if a := x.param("digest-algorithm"); a != "" {
		if alg, err = registry.ParseAlgorithm(a); err != nil {
			return err
		}
	}
	if d := x.param("digest"); d != "" {
		if want, err = registry.ParseDigest(d); err != nil {
			return err
		}
		if alg != "" && alg != want.Algorithm() {
			x.warn("digest-algorithm ignored: digest has another algorithm")
		}
		alg = want.Algorithm()
	}
	if mount := x.param("mount"); mount != "" {
		mounted, err := g.mount(x, mount)
		if mounted || err != nil {
			return err
		}
	}
	if want != "" {
		return g.uploadWhole(x, pool, want)
	}
	place, err := g.uploads.take(ctx, clientOf(x.actor, x.r.RemoteAddr))
	if err != nil {
		return err
	}
	u, err := g.blobs.Start(ctx, pool, alg)
	if err != nil {
		place.give()
		return doing("starting an upload", err)
	}
	if err := g.uploadHeader(x, u, alg); err != nil { // nobody can go on with it
		place.give()
		g.giveUp(ctx, u)
		return err
	}
	place.began(u.ID)
	x.empty(http.StatusAccepted)
	return nil
}

// mount tries to make a blob of another repository known here. Whatever stands
// in the way of that, except a malformed digest or a fault of ours, the client gets a session and sends
// the bytes: a refusal would break its push (containerd gives up on a 403).
func (g *Gateway) mount(x *exchange, mount string) (done bool, err error) {
	d, err := registry.ParseDigest(mount)
	if err != nil {
		return false, err
	}
	var from registry.Name
	if f := x.param("from"); f != "" {
		if from, err = registry.ParseName(f); err != nil {
			x.warn("mount ignored: from is not a repository name")
			return false, nil
		}
	}
	stored, err := g.catalog.Mount(x.context(), x.actor, x.repo, d, from)
	g.recent.changed(x.repo)
	if err != nil {
		switch clientError(x.context(), err).Code.Kind() {
		case registry.Fault, registry.Passing, registry.Gone, registry.Exhausted:
			return false, doing("mounting a blob", err)
		}
		return false, nil
	}
	x.created("/blobs/", stored.Digest)
	return true, nil
}

// uploadWhole stores the body as a blob in one request.
func (g *Gateway) uploadWhole(x *exchange, pool registry.Pool, want registry.Digest) error {
	ctx := x.context()
	place, err := g.uploads.take(ctx, clientOf(x.actor, x.r.RemoteAddr))
	if err != nil {
		return err
	}
	defer place.give() // nobody can go on with it
	u, err := g.blobs.Start(ctx, pool, want.Algorithm())
	if err != nil {
		return doing("starting an upload", err)
	}
	b := x.open(x.settings.ReadIdle, -1)
	stored, err := g.blobs.Commit(ctx, u, b, want)
	if err != nil {
		g.giveUp(ctx, u)
		return doing("storing a blob", b.cause(err))
	}
	return g.link(x, stored)
}

// giveUp removes a session whose client does not know it, so that nobody can go
// on with it. A blobstore in another process may hear of that before its own call
// for the session has ended, and refuses meanwhile. What is not removed in the end
// goes when it expires.
func (g *Gateway) giveUp(ctx context.Context, u registry.Upload) {
	ctx, cancel := finish(ctx)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := g.blobs.Abort(ctx, u); !errors.Is(err, registry.ErrRangeInvalid) {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// link makes a stored blob known in the repository and answers 201.
func (g *Gateway) link(x *exchange, s registry.Stored) error {
	ctx, cancel := finish(x.context())
	defer cancel()
	_, err := g.catalog.Link(ctx, x.actor, x.repo, s)
	g.recent.changed(x.repo)
	if err != nil {
		return doing("linking a blob", err)
	}
	x.created("/blobs/", s.Digest)
	return nil
}

// created answers 201 for content that can be read at collection + d.
func (x *exchange) created(collection string, d registry.Digest) {
	x.set("Location", "/v2/"+string(x.repo)+collection+string(d))
	x.set("Docker-Content-Digest", string(d))
	x.empty(http.StatusCreated)
}

// maxWarnings is how many bytes the texts of all warnings of an answer may have
// (distribution-spec, "Warnings").
const maxWarnings = 4096

// warn tells the people at the client's end something, in a Warning of its own
// (RFC 7234 §5.5, which distribution-spec still uses). text is printable ASCII
// without quotes and backslashes. What does not fit into the limit is left out.
func (x *exchange) warn(text string) {
	h := x.w.Header()
	used := 0
	for _, w := range h["Warning"] {
		used += len(w)
	}
	w := `299 - "` + text + `"`
	if used+len(w) <= maxWarnings {
		h["Warning"] = append(h["Warning"], w)
	}
}
