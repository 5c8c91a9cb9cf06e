package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/berth-registry/berth/registry"
)

// sendChunk is how much of a file the kernel sends under one write deadline. A
// client has to take that much per idle time: 256 KiB a minute.
const sendChunk = 256 << 10

// small content is cheaper copied: it leaves in one system call with the header.
const small = 16 << 10

// send copies content to the client. The header is out already, so an error
// can't become an answer: the caller returns it and the connection is aborted.
func (x *exchange) send(c registry.Content, size int64) error {
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
	s.x.renewWrite()
	n, err := s.x.w.Write(p)
	if err != nil {
		err = clientGone(err)
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (s sender) ReadFrom(r io.Reader) (int64, error) {
	w, ok := s.x.w.(io.ReaderFrom)
	lr, limited := r.(*io.LimitedReader)
	if !ok || !limited || lr.N <= small {
		return io.Copy(plainWriter{s}, r)
	}
	if _, file := lr.R.(*os.File); !file {
		return io.Copy(plainWriter{s}, r)
	}
	total := int64(0)
	chunk := &io.LimitedReader{R: lr.R}
	for lr.N > 0 {
		s.x.renewWrite()
		chunk.N = min(sendChunk, lr.N)
		n, err := w.ReadFrom(chunk)
		total += n
		lr.N -= n
		if err != nil {
			return total, sendError(err)
		}
		if n == 0 {
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
