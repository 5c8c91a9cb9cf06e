package memory

import (
	"context"
	"io"
	"io/fs"
	"sync/atomic"
)

// content reads bytes that never change.
type content struct {
	ctx    context.Context // bounds the life of the content
	size   int64
	rest   []byte
	closed atomic.Bool // Close may come from another goroutine
}

// step is how many bytes WriteTo hands on before it looks whether it may go on.
const step = 1 << 20

func newContent(ctx context.Context, data []byte) *content {
	return &content{ctx: ctx, size: int64(len(data)), rest: data}
}

func (c *content) check() error {
	if c.closed.Load() {
		return fs.ErrClosed
	}
	return c.ctx.Err()
}

func (c *content) Read(p []byte) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	if len(c.rest) == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *content) WriteTo(w io.Writer) (int64, error) {
	var written int64
	if err := c.check(); err != nil {
		return 0, err
	}
	for len(c.rest) > 0 {
		if err := c.check(); err != nil {
			return written, err
		}
		piece := c.rest[:min(step, len(c.rest))]
		n, err := w.Write(piece)
		written += int64(n)
		c.rest = c.rest[n:]
		if err != nil {
			return written, err
		}
		if n < len(piece) {
			return written, io.ErrShortWrite
		}
	}
	return written, nil
}

func (c *content) Close() error {
	c.closed.Store(true)
	return nil
}

func (c *content) Size() int64 { return c.size }
