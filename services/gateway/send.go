package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// fileChunk is how much of a file the kernel sends under one write deadline.
	// If the deadline passes, what was sent until then tells whether the client
	// is slow or gone.
	fileChunk = 4 << 20
	// writeChunk is how much is written under one deadline where a deadline that
	// passed can't be survived: a client has to take that much per idle time,
	// about 1 KiB/s.
	writeChunk = 64 << 10
	// small content is cheaper copied: it leaves in one system call with the
	// header.
	small = 16 << 10
	// sniffed is what net/http may count as sent although it is only buffered.
	sniffed = 512
)

// send copies content to the client. The header is out already, so an error
// can't become an answer: the caller returns it and the connection is aborted.
func (x *exchange) send(c registry.Content, size int64) error {
	if size > writeChunk || x.sent > 0 {
		x.watch()
	}
	n, err := io.Copy(sender{x}, c)
	x.sent += n
	if err == nil && n != size {
		err = fmt.Errorf("sent %d bytes of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return err
}

// sender is the response as the content sees it. It moves the write deadline
// along and keeps the way to sendfile(2) open: a file under one LimitedReader
// reaches the TCP connection as a file under one LimitedReader.
type sender struct{ x *exchange }

func (s sender) Write(p []byte) (int, error) {
	total := 0
	for {
		s.x.renewWrite()
		n, err := s.x.w.Write(p[:min(len(p), writeChunk)])
		total += n
		if err != nil {
			return total, clientGone(err)
		}
		if p = p[n:]; len(p) == 0 {
			return total, nil
		}
	}
}

// ReadFrom implements io.ReaderFrom.
func (s sender) ReadFrom(r io.Reader) (int64, error) {
	w, ok := s.x.w.(io.ReaderFrom)
	lr, limited := r.(*io.LimitedReader)
	if !ok || !limited || lr.N <= small || s.x.r.TLS != nil || s.x.r.ProtoMajor != 1 {
		return io.Copy(plainWriter{s}, r)
	}
	if _, file := lr.R.(*os.File); !file {
		return io.Copy(plainWriter{s}, r)
	}
	if !s.x.pins.take() {
		return io.Copy(plainWriter{s}, r)
	}
	defer s.x.pins.give()
	total := int64(0)
	chunk := &io.LimitedReader{R: lr.R}
	for lr.N > 0 {
		s.x.renewWrite()
		chunk.N = min(fileChunk, lr.N)
		n, err := w.ReadFrom(chunk)
		total += n
		lr.N -= n
		switch {
		case n > sniffed && errors.Is(err, os.ErrDeadlineExceeded):
			s.x.renewed = time.Time{} // slow, not gone
		case err != nil:
			return total, sendError(err)
		case n == 0:
			return total, nil // the file ended early: its content says so
		}
	}
	return total, nil
}

// sendError tells a client that left from a file that can't be read.
func sendError(err error) error {
	if _, path := errors.AsType[*os.PathError](err); path || errors.Is(err, syscall.EIO) {
		return err
	}
	return clientGone(err)
}

// plainWriter hides ReadFrom, or io.Copy would call it again.
type plainWriter struct{ s sender }

func (w plainWriter) Write(p []byte) (int, error) { return w.s.Write(p) }
