package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/berth-registry/berth/registry"
)

// stateParam is the query parameter that carries the upload token.
const stateParam = "_state"

// session checks that the actor may upload to the repository and that the
// request's token is ours, made for the repository, the actor and the upload.
// Nothing of the body has been read until then.
func (g *Gateway) session(x *exchange) (registry.Upload, session, error) {
	ctx := x.context()
	if _, err := g.catalog.Admit(ctx, x.actor, x.repo); err != nil {
		return registry.Upload{}, session{}, doing("admitting an upload", err)
	}
	s, err := g.keys.open(ctx, x.param(stateParam), session{repo: x.repo, actor: x.actor.ID, id: x.id})
	if err != nil {
		return registry.Upload{}, session{}, doing("checking an upload token", err)
	}
	g.uploads.used(s.id, clientOf(x.actor, x.r.RemoteAddr))
	return registry.Upload{ID: s.id, Pool: s.pool}, s, nil
}

// uploadHeader sets the headers that describe the session u.
func (g *Gateway) uploadHeader(x *exchange, u registry.Upload, alg registry.Algorithm) error {
	key, err := g.keys.signing(x.context())
	if err != nil {
		return doing("signing an upload token", err)
	}
	s := session{repo: x.repo, actor: x.actor.ID, id: u.ID, pool: u.Pool, alg: alg}
	x.set("Location", "/v2/"+string(x.repo)+"/blobs/uploads/"+string(u.ID)+"?"+stateParam+"="+s.seal(key))
	x.set("Docker-Upload-Uuid", string(u.ID))
	x.set("Blob-Upload-Uuid", string(u.ID))
	x.set("Range", uploadRange(u.Offset))
	return nil
}

// uploadRange returns the Range header of a session with n bytes. It counts its
// last byte in, so that none and one look the same: docker and the conformance
// suite accept no other form.
func uploadRange(n int64) string {
	return "0-" + strconv.FormatInt(max(n-1, 0), 10)
}

// uploadStatus answers GET and HEAD of a session.
func (g *Gateway) uploadStatus(x *exchange) error {
	u, s, err := g.session(x)
	if err != nil {
		return err
	}
	if u, err = g.blobs.Status(x.context(), u); err != nil {
		g.foundGone(x, s, err)
		return doing("looking up an upload", err)
	}
	if err := g.uploadHeader(x, u, s.alg); err != nil {
		return err
	}
	x.empty(http.StatusNoContent)
	return nil
}

// uploadAbort answers DELETE of a session.
func (g *Gateway) uploadAbort(x *exchange) error {
	u, _, err := g.session(x)
	if err != nil {
		return err
	}
	err = g.blobs.Abort(x.context(), u)
	g.uploadGone(x, u, err)
	if err != nil {
		return doing("cancelling an upload", err)
	}
	x.empty(http.StatusNoContent)
	return nil
}

// uploadAppend answers PATCH: a chunk with Content-Range, or a stream without.
func (g *Gateway) uploadAppend(x *exchange) error {
	u, s, err := g.session(x)
	if err != nil {
		return err
	}
	b, err := g.chunk(x, &u)
	if err != nil {
		return g.refuseChunk(x, u, s, err)
	}
	u, err = g.blobs.Append(x.context(), u, b)
	if err == nil {
		err = b.err
	}
	if err != nil {
		return g.refuseChunk(x, registry.Upload{ID: s.id, Pool: s.pool}, s, doing("appending to an upload", b.cause(err)))
	}
	if err := g.uploadHeader(x, u, s.alg); err != nil {
		return err
	}
	x.empty(http.StatusAccepted)
	return nil
}

// chunk prepares the body of a PATCH or PUT and sets the offset it belongs at.
func (g *Gateway) chunk(x *exchange, u *registry.Upload) (*body, error) {
	want := int64(-1)
	if cr := x.header("Content-Range"); cr != "" {
		offset, n, err := parseContentRange(cr)
		if err != nil {
			return nil, err
		}
		if l := x.r.ContentLength; l >= 0 && l != n {
			return nil, registry.ErrSizeInvalid.With("Content-Length is %d, but Content-Range is %d bytes long", l, n)
		}
		u.Offset, want = offset, n
		return x.open(x.settings.ReadIdle, want), nil
	}
	now, err := g.blobs.Status(x.context(), *u)
	if err != nil {
		return nil, doing("looking up an upload", err)
	}
	u.Offset = now.Offset
	return x.open(x.settings.ReadIdle, want), nil
}

// refuseChunk adds to an error where the session stands, so that a client can go
// on from there.
func (g *Gateway) refuseChunk(x *exchange, u registry.Upload, s session, cause error) error {
	g.foundGone(x, s, cause)
	if !errors.Is(cause, registry.ErrRangeInvalid) && !errors.Is(cause, registry.ErrSizeInvalid) {
		return cause
	}
	now, err := g.blobs.Status(x.context(), u)
	if errors.Is(err, registry.ErrUploadUnknown) {
		g.foundGone(x, s, err)
		return err
	}
	if err == nil {
		err = g.uploadHeader(x, now, s.alg)
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// uploadFinish answers PUT: the last chunk, if any, and the digest of all.
func (g *Gateway) uploadFinish(x *exchange) error {
	u, s, err := g.session(x)
	if err != nil {
		return err
	}
	want, err := registry.ParseDigest(x.param("digest"))
	if err != nil {
		return err
	}
	b, err := g.chunk(x, &u)
	switch {
	case errors.Is(err, registry.ErrUploadUnknown):
		g.uploadGone(x, u, err)
		return g.finished(x, u, want, err)
	case err != nil:
		return g.refuseChunk(x, u, s, err)
	}
	var last io.Reader = b
	if x.r.ContentLength == 0 {
		b.done = true
		if last = nil; x.header("Content-Range") != "" {
			last = b // the offset still has to be right
		}
	}
	stored, err := g.blobs.Commit(x.context(), u, last, want)
	g.uploadGone(x, u, err)
	switch {
	case errors.Is(err, registry.ErrUploadUnknown):
		return g.finished(x, u, want, err)
	case err != nil:
		return g.refuseChunk(x, registry.Upload{ID: s.id, Pool: s.pool}, s, doing("storing a blob", b.cause(err)))
	}
	return g.link(x, stored)
}

// uploadGone frees the place of a session if what was done to it has ended it, or found
// it gone.
func (g *Gateway) uploadGone(x *exchange, u registry.Upload, err error) {
	if err == nil || errors.Is(err, registry.ErrUploadUnknown) {
		g.uploads.ended(u.ID, clientOf(x.actor, x.r.RemoteAddr))
	}
}

// foundGone frees the place of a session if err says that it is gone.
func (g *Gateway) foundGone(x *exchange, s session, err error) {
	if errors.Is(err, registry.ErrUploadUnknown) {
		g.uploads.ended(s.id, clientOf(x.actor, x.r.RemoteAddr))
	}
}

// finished answers a PUT for a session that is gone. It may be gone because an
// earlier PUT, whose answer got lost, finished it; the token proves that this
// client began it.
func (g *Gateway) finished(x *exchange, u registry.Upload, want registry.Digest, gone error) error {
	ctx := x.context()
	u.Offset = 0
	if stored, err := g.blobs.Commit(ctx, u, nil, want); err == nil {
		return g.link(x, stored)
	}
	if _, err := g.catalog.Blob(ctx, x.actor, x.repo, want); err != nil {
		return gone
	}
	x.created("/blobs/", want)
	return nil
}
