package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc"

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
	size     int64
	unread   int64 // bytes that were not received yet; for the reader only

	mu  sync.Mutex
	cur chunk // received and not read; guarded by mu, on loan while it is used
	end error // why there is no more; guarded by mu
}

// openContent starts the stream and waits for the header.
func openContent(ctx context.Context, client blobstorev1.BlobServiceClient, l limits, req *blobstorev1.OpenBlobRequest) (*content, error) {
	progress, stop := context.WithCancelCause(ctx)
	c := &content{
		ctx:      ctx,
		stop:     stop,
		progress: progress,
		patience: newPatience(l.progress, func() { stop(errStalled) }),
	}
	stream, err := client.OpenBlob(progress, req, chunkOptions()...)
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

// received counts the bytes of a chunk.
func (c *content) received(ch *chunk) error {
	c.unread -= int64(ch.len())
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
	if err == nil {
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

// receive gets the next chunk, or io.EOF if all bytes have been received and the
// server has said that there are no more.
func (c *content) receive(ch *chunk) error {
	switch err := c.recv(ch); {
	case err == io.EOF && c.unread > 0:
		return io.ErrUnexpectedEOF
	case err == io.EOF:
		return io.EOF
	case err != nil:
		return c.fail(err)
	}
	return c.received(ch)
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

// WriteTo implements io.WriterTo: it writes received buffers to w as they are.
func (c *content) WriteTo(w io.Writer) (total int64, err error) {
	for {
		ch, err := c.borrow()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := ch.writeTo(w)
		total += n
		c.giveBack(ch)
		if err != nil {
			return total, err
		}
	}
}
