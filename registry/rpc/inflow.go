package rpc

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
)

// errSourceFailed is what a reader of an inflow gets when the sender has said
// that its own source failed.
var errSourceFailed = errors.New("the sender's source failed")

// inflow reads the bytes of an upload. It is for one goroutine.
type inflow struct {
	stream grpc.ServerStream
	cur    chunk
	end    error
}

// begin receives the first message, which is in cur.rest then.
func (f *inflow) begin() error {
	err := f.stream.RecvMsg(&f.cur)
	if err == io.EOF || err == nil && !f.cur.more {
		return registry.ErrUploadInvalid.With("the stream's first message has no header")
	}
	if err == nil {
		f.note()
	}
	return err
}

// note keeps in mind what the current message says besides its bytes.
func (f *inflow) note() {
	if m, ok := f.cur.rest.(interface{ GetSourceFailed() bool }); ok && f.cur.more && m.GetSourceFailed() {
		f.end = errSourceFailed
	}
}

// next makes cur have bytes, or returns why there are no more.
func (f *inflow) next() error {
	for f.cur.len() == 0 {
		if f.end != nil {
			return f.end
		}
		switch err := f.stream.RecvMsg(&f.cur); {
		case err == nil:
			f.note()
		case f.stream.Context().Err() != nil:
			f.end = f.stream.Context().Err()
		default:
			f.end = err
		}
	}
	return nil
}

// Read implements io.Reader.
func (f *inflow) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := f.next(); err != nil {
		return 0, err
	}
	return f.cur.read(p), nil
}

// close gives up what was received and not read.
func (f *inflow) close() { f.cur.free() }
