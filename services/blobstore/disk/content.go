package disk

import (
	"context"
	"io"
	"io/fs"
	"sync/atomic"
)

// sendStep is how much one call moves from a file to a socket: between calls a
// reader notices that it should stop.
const sendStep = 16 << 20

// content is an open blob.
type content struct {
	ctx    context.Context // bounds the life of the content
	file   file
	size   int64
	left   int64
	closed atomic.Bool
	unhook func() bool // stops ctx from closing the file; nil if it would not
}

// shortRead is how much is read in no time: nothing in between could be ended.
const shortRead = 64 << 10

// newContent returns the next n bytes of f.
func newContent(ctx context.Context, f file, n int64) *content {
	c := &content{ctx: ctx, file: f, size: n, left: n}
	if n > shortRead && ctx.Done() != nil {
		c.unhook = context.AfterFunc(ctx, func() { f.Close() })
	}
	return c
}

// Size implements [registry.Content].
func (c *content) Size() int64 { return c.size }

// Read implements [registry.Content].
func (c *content) Read(p []byte) (int, error) {
	if err := c.stopped(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.file.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	switch {
	case err == io.EOF && c.left > 0:
		err = io.ErrUnexpectedEOF
	case err == io.EOF:
		err = nil
	case err != nil:
		err = c.why(err)
	}
	return n, err
}

// WriteTo lets the kernel do the copy when w is a cleartext HTTP/1.1 response:
// net/http hands the LimitedReader to TCPConn.ReadFrom, which unwraps exactly
// one and calls sendfile(2) on the *os.File inside.
func (c *content) WriteTo(w io.Writer) (int64, error) { return c.SendTo(w, c.left) }

// ReadAt implements [blobstore.InPlace].
func (c *content) ReadAt(p []byte, off int64) (int, error) { return c.file.ReadAt(p, off) }

// SendTo implements [blobstore.InPlace].
func (c *content) SendTo(w io.Writer, n int64) (int64, error) {
	var total int64
	for n = min(n, c.left); ; {
		if err := c.stopped(); err != nil {
			return total, err
		}
		if total == n {
			return total, nil
		}
		step := min(n-total, sendStep)
		sent, err := io.Copy(w, &io.LimitedReader{R: c.file, N: step})
		c.left -= sent
		total += sent
		if err != nil {
			return total, c.why(err)
		}
		if sent < step {
			return total, io.ErrUnexpectedEOF // the file got shorter
		}
	}
}

// stopped returns an error if the content was closed or its context has ended.
func (c *content) stopped() error {
	if c.closed.Load() {
		return fs.ErrClosed
	}
	return c.ctx.Err()
}

// why returns the reason of an error: that of a file that was closed in the
// midst of a read lies elsewhere.
func (c *content) why(err error) error {
	if e := c.stopped(); e != nil {
		return e
	}
	return err
}

// Close implements [registry.Content].
func (c *content) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	if c.unhook != nil && !c.unhook() {
		return nil // the context has closed it
	}
	return c.file.Close()
}
