package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
)

var errClosed = fmt.Errorf("content is closed: %w", os.ErrClosed)

// content is a blob that arrives over a stream.
type content struct {
	ctx      context.Context // the caller's: its end ends reading
	stop     context.CancelCauseFunc
	stream   grpc.ClientStream
	progress context.Context // the stream's: its cause says why we gave it up
	patience *patience
	pool     mem.BufferPool
	size     int64

	// For the reader only.
	unread int64 // bytes that were not received yet
	whole  bool  // all were, and the server has said that all is well

	mu  sync.Mutex
	cur chunk // received and not read; guarded by mu, on loan while it is used
	end error // why there is no more; guarded by mu
}

// openContent starts the stream and waits for the header.
func openContent(ctx context.Context, b *blobs, req *blobstorev1.OpenBlobRequest) (*content, error) {
	progress, stop := context.WithCancelCause(ctx)
	c := &content{
		ctx:      ctx,
		stop:     stop,
		pool:     b.pool,
		progress: progress,
		patience: newPatience(b.limits.progress, func() { stop(errStalled) }),
	}
	stream, err := b.client.OpenBlob(progress, req, chunkOptions()...)
	if err == nil {
		c.stream = stream
		err = c.recv(&c.cur)
	}
	if err == nil {
		err = c.begin()
	}
	if err != nil {
		c.patience.timer.Stop()
		c.cur.free()
		if c.stalled() {
			err = c.fail(err)
		}
		stop(nil)
		return nil, err
	}
	return c, nil
}

// begin reads the header.
func (c *content) begin() error {
	first, ok := c.cur.rest.(*blobstorev1.OpenBlobResponse)
	if !ok || !c.cur.more || first.Header == nil {
		return registry.ErrInternal.Because(errors.New("the stream's first message has no header"))
	}
	c.size = first.Header.GetSize()
	c.unread = c.size
	return c.received(&c.cur)
}

// received counts the bytes of a chunk. After the last one it waits for the end
// of the stream: so no reader gets the last bytes of content that the server
// says is damaged, and none that has them waits for the network again.
func (c *content) received(ch *chunk) error {
	c.unread -= int64(ch.len())
	for c.unread == 0 && !c.whole {
		var last chunk
		err := c.recv(&last)
		if err == io.EOF {
			c.whole = true
			return nil
		}
		if err != nil {
			return err
		}
		c.unread -= int64(last.len())
		last.free()
	}
	if c.unread < 0 {
		return registry.ErrInternal.Because(fmt.Errorf("received more than the %d bytes announced", c.size))
	}
	return nil
}

// stalled reports whether we have lost patience.
func (c *content) stalled() bool {
	return errors.Is(context.Cause(c.progress), errStalled) && c.ctx.Err() == nil
}

// chunkOptions are for calls that stream.
func chunkOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.ForceCodecV2(newCodec(0)), grpc.MaxCallRecvMsgSize(maxMessage)}
}

// recv receives the next message.
func (c *content) recv(ch *chunk) error {
	ch.rest = new(blobstorev1.OpenBlobResponse)
	return c.patience.during(func() error { return c.stream.RecvMsg(ch) })
}

// fail translates an error of the stream.
func (c *content) fail(err error) error {
	if c.stalled() {
		return registry.ErrUnavailable.Because(fmt.Errorf("no byte for %v", c.patience.limit))
	}
	return fromStatus(c.ctx, err)
}

// Size implements registry.Content.
func (c *content) Size() int64 { return c.size }

// Close implements registry.Content.
func (c *content) Close() error {
	c.finish(errClosed)
	return nil
}

// finish notes why there is no more to read, and lets go of stream and buffers.
// The first reason stays, except that Close comes after each. It returns the
// one that counts.
func (c *content) finish(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil || why == errClosed {
		c.end = why
	}
	c.cur.free()
	c.stop(nil)
	c.patience.timer.Stop()
	return c.end
}

// borrow takes the current chunk out of c. It has bytes unless there is an error.
func (c *content) borrow() (chunk, error) {
	c.mu.Lock()
	ch, err := c.cur, c.end
	c.cur = chunk{}
	c.mu.Unlock()
	switch {
	case err != nil:
	case c.whole && ch.len() == 0:
		err = io.EOF
	default:
		err = c.ctx.Err()
	}
	for err == nil && ch.len() == 0 {
		ch.free()
		err = c.receive(&ch)
	}
	if err != nil {
		ch.free()
		return chunk{}, c.finish(err)
	}
	return ch, nil
}

// receive gets the next chunk.
func (c *content) receive(ch *chunk) error {
	err := c.recv(ch)
	if err == nil {
		err = c.received(ch)
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF // the last byte was not there yet
	}
	if err != nil {
		return c.fail(err)
	}
	return nil
}

// giveBack returns what is left of a chunk.
func (c *content) giveBack(ch chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		ch.free()
		return
	}
	c.cur = ch
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ch, err := c.borrow()
	if err != nil {
		return 0, err
	}
	n := ch.read(p)
	c.giveBack(ch)
	return n, nil
}

// WriteTo implements io.WriterTo: it writes what is received chunk by chunk.
func (c *content) WriteTo(w io.Writer) (total int64, err error) {
	for {
		ch, err := c.borrow()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := ch.writeTo(w, c.pool)
		total += n
		c.giveBack(ch)
		if err != nil {
			return total, err
		}
	}
}
