package gateway

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/berth-registry/berth/registry"
)

// How long answers may be kept (RFC 9111 §5.2.2).
//
// immutable lets the client keep what it got by digest: it can't change. Nobody
// else may keep it, because others may not be allowed to have it.
// revalidated is for tags, which can move, unkept for everything else.
const (
	immutable   = "private, max-age=31536000, immutable"
	revalidated = "private, no-cache"
	unkept      = "private, no-store"
)

// blobGet answers GET and HEAD of a blob.
func (g *Gateway) blobGet(x *exchange) error {
	ctx := x.context()
	b, err := g.findBlob(x)
	if err != nil {
		return doing("resolving a blob", g.mirroredBlob(x, err))
	}
	if b.Inline != nil { // a manifest
		if err := g.admitPull(x, registry.Manifest{Digest: b.Digest, Bytes: b.Inline}); err != nil {
			return err
		}
	}
	tag := etag(x.ref.Digest)
	x.set("Docker-Content-Digest", string(x.ref.Digest))
	x.set("Etag", tag)
	x.set("Cache-Control", immutable)
	if matchesNone(x.r.Header["If-None-Match"], tag) {
		x.empty(http.StatusNotModified)
		return nil
	}
	size := b.Size
	if b.Inline != nil {
		size = int64(len(b.Inline))
	}
	var parts []registry.Range
	if rh := x.header("Range"); rh != "" && x.r.Method == http.MethodGet && ifRange(x.header("If-Range"), tag) {
		if parts, err = x.parseRange(rh, size); err != nil {
			return err
		}
	}
	if len(parts) > 1 {
		if m := newMultipart(parts, size); m.length <= size {
			return g.sendParts(x, b, m)
		}
		parts = nil // the whole is shorter than its parts
	}
	part, status := registry.Whole, http.StatusOK
	if len(parts) == 1 {
		part, status = parts[0], http.StatusPartialContent
		x.set("Content-Range", contentRange(part, size))
	}
	offset, length, err := part.Resolve(size)
	if err != nil {
		return err
	}
	if x.r.Method == http.MethodHead || b.Inline != nil {
		x.blobHeader(status, octets, length)
		if b.Inline == nil {
			return nil
		}
		return x.write(b.Inline[offset : offset+length])
	}
	// Who reads from the object store reads what nobody has looked at.
	if !b.Unverified && g.redirect(x, b.Stored) {
		g.served(x, size)
		return nil
	}
	part.Verify = b.Unverified
	content, err := g.blobs.Open(ctx, b.Stored, part)
	if err != nil {
		return doing("opening a blob", g.lost(x, b, err))
	}
	defer content.Close()
	x.blobHeader(status, octets, length)
	err = x.send(content, length)
	if err == nil {
		g.served(x, length)
	}
	switch {
	case isDamage(err):
		g.report(x, b, true)
	case err == nil && b.Unverified && length == size:
		g.report(x, b, false)
	}
	return doing("sending a blob", err)
}

// parseRange is the function of that name. It has a client that asks for what is behind the
// end told how much there is (RFC 9110 §15.5.17).
func (x *exchange) parseRange(header string, size int64) ([]registry.Range, error) {
	parts, err := parseRange(header, size)
	if errors.Is(err, registry.ErrRangeInvalid) {
		x.set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
	}
	return parts, err
}

// findBlob asks where a blob is. HEAD is often asked before a push, which counts
// on the promise of [registry.Links] that the blob stays: the catalog makes it.
func (g *Gateway) findBlob(x *exchange) (registry.Blob, error) {
	if x.r.Method == http.MethodGet {
		if b, known := g.recent.blob(x.actor, x.repo, x.ref.Digest); known {
			return b, nil
		}
	}
	when := g.recent.askNow()
	b, err := g.catalog.Blob(x.context(), x.actor, x.repo, x.ref.Digest)
	if err == nil {
		g.recent.keepBlob(x.actor, x.repo, b, when)
	}
	return b, err
}

// isDamage reports whether an error says that a copy is not what the Catalog says.
func isDamage(err error) bool {
	return errors.Is(err, registry.ErrDigestInvalid) || errors.Is(err, registry.ErrBlobUnknown)
}

// lost turns "no such copy", or "a damaged one", said of a copy the Catalog named,
// into a fault: the client must not take it for a blob that was never there, and
// an operator has to know. The Catalog does from then on.
func (g *Gateway) lost(x *exchange, b registry.Blob, err error) error {
	if isDamage(err) {
		g.report(x, b, true)
	}
	if isDamage(err) || errors.Is(err, registry.ErrRangeInvalid) {
		return registry.ErrInternal.With("the stored copy of this blob can't be read: it is being looked at").Because(err)
	}
	return err
}

// report tells the Catalog what a read has found out. That it could not be told
// changes nothing for the client: the next reader finds the same.
func (g *Gateway) report(x *exchange, b registry.Blob, damaged bool) {
	ctx, cancel := finish(x.context())
	defer cancel()
	defer g.recent.changed(x.repo)
	if err := g.catalog.ReportReads(ctx, []registry.ReadReport{{Stored: b.Stored, Damaged: damaged}}); err != nil {
		g.log.Warn("what reading a blob has shown could not be recorded", "digest", b.Digest, "damaged", damaged, "error", err)
	}
}

// contentRange returns the Content-Range of a part (RFC 9110 §14.4).
func contentRange(part registry.Range, size int64) string {
	var buf [80]byte
	return string(appendContentRange(buf[:0], part, size))
}

func appendContentRange(b []byte, part registry.Range, size int64) []byte {
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, part.Offset, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, part.Offset+part.Length-1, 10)
	b = append(b, '/')
	return strconv.AppendInt(b, size, 10)
}

// octets is the media type of every blob, whatever was said when it was pushed.
const octets = "application/octet-stream"

// blobHeader sends the header of a blob or of parts of it. A browser that is led
// here must not take the bytes for a page of ours.
func (x *exchange) blobHeader(status int, contentType string, length int64) {
	x.set("Accept-Ranges", "bytes")
	x.set("Content-Type", contentType)
	x.set("Content-Disposition", "attachment")
	x.set("Content-Security-Policy", "sandbox")
	x.length(length)
	x.start(status)
}

// blobDelete answers DELETE of a blob.
func (g *Gateway) blobDelete(x *exchange) error {
	err := g.catalog.Unlink(x.context(), x.actor, x.repo, x.ref.Digest)
	g.recent.changed(x.repo)
	if err != nil {
		return doing("deleting a blob", err)
	}
	x.empty(http.StatusAccepted)
	return nil
}
