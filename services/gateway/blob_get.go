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
		return doing("resolving a blob", err)
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
		if parts, err = parseRange(rh, size); err != nil {
			if errors.Is(err, registry.ErrRangeInvalid) {
				x.set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
			}
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
	if g.redirect(x, b.Stored) {
		return nil
	}
	content, err := g.blobs.Open(ctx, b.Stored, part)
	if err != nil {
		return doing("opening a blob", lost(err))
	}
	defer content.Close()
	x.blobHeader(status, octets, length)
	return doing("sending a blob", x.send(content, length))
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

// lost turns "no such copy", said of a copy the Catalog named, into a fault: the
// client must not take it for a blob that was never there, and an operator has
// to know.
func lost(err error) error {
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrRangeInvalid) {
		return registry.ErrInternal.Because(err)
	}
	return err
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
