package s3

import (
	"context"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
)

// nothing is content of no bytes.
type nothing struct {
	ctx    context.Context
	closed atomic.Bool
}

func emptyContent(ctx context.Context) registry.Content { return &nothing{ctx: ctx} }

// Size implements [registry.Content].
func (*nothing) Size() int64 { return 0 }

// Read implements [registry.Content].
func (c *nothing) Read(p []byte) (int, error) {
	if err := c.stopped(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, io.EOF
}

// WriteTo implements [registry.Content].
func (c *nothing) WriteTo(io.Writer) (int64, error) { return 0, c.stopped() }

func (c *nothing) stopped() error {
	if c.closed.Load() {
		return fs.ErrClosed
	}
	return c.ctx.Err()
}

// Close implements [registry.Content].
func (c *nothing) Close() error {
	c.closed.Store(true)
	return nil
}
