package gateway

import (
	"crypto/rand"
	"net/http"

	"github.com/berth-registry/berth/registry"
)

// multipart is an answer of several parts of a blob (RFC 9110 §14.6).
type multipart struct {
	boundary string
	parts    []registry.Range
	size     int64 // of the blob
	length   int64 // of the body
}

// newMultipart returns the answer with these parts of a blob of size bytes. Its
// boundary is new each time: nobody can push a blob that holds it.
func newMultipart(parts []registry.Range, size int64) *multipart {
	m := &multipart{boundary: rand.Text(), parts: parts, size: size}
	var buf []byte
	for i, p := range parts {
		buf = m.appendHead(buf[:0], i)
		m.length += int64(len(buf)) + p.Length
	}
	m.length += int64(len(m.tail()))
	return m
}

// appendHead appends what stands before the bytes of part i.
func (m *multipart) appendHead(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, "\r\n"...)
	}
	b = append(b, "--"...)
	b = append(b, m.boundary...)
	b = append(b, "\r\nContent-Type: "+octets+"\r\nContent-Range: "...)
	b = appendContentRange(b, m.parts[i], m.size)
	return append(b, "\r\n\r\n"...)
}

// tail returns what stands behind the last part.
func (m *multipart) tail() string { return "\r\n--" + m.boundary + "--\r\n" }

// sendParts answers with parts of a blob. One of them is open at a time.
func (g *Gateway) sendParts(x *exchange, b registry.Blob, m *multipart) error {
	var buf []byte
	for i, p := range m.parts {
		if err := g.sendPart(x, b, p, func() error {
			if i == 0 {
				x.blobHeader(http.StatusPartialContent, "multipart/byteranges; boundary="+m.boundary, m.length)
			}
			buf = m.appendHead(buf[:0], i)
			return x.write(buf)
		}); err != nil {
			return err
		}
	}
	return x.write([]byte(m.tail()))
}

// sendPart sends one part of b. It calls head once the part is known to be there.
func (g *Gateway) sendPart(x *exchange, b registry.Blob, p registry.Range, head func() error) error {
	if b.Inline != nil {
		if err := head(); err != nil {
			return err
		}
		return x.write(b.Inline[p.Offset : p.Offset+p.Length])
	}
	p.Verify = b.Unverified
	content, err := g.blobs.Open(x.context(), b.Stored, p)
	if err != nil {
		return doing("opening a part of a blob", g.lost(x, b, err))
	}
	defer content.Close()
	if err := head(); err != nil {
		return err
	}
	if err = x.send(content, p.Length); isDamage(err) {
		g.report(x, b, true)
	}
	return doing("sending a part of a blob", err)
}
