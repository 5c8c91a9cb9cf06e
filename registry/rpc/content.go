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

// content is a blob that arrives over a stream, and over another one when the
// network breaks the first: what a locator names never changes, so any replica
// can go on at the byte where one stopped.
type content struct {
	ctx  context.Context // the caller's: its end ends reading
	from *blobs
	req  *blobstorev1.OpenBlobRequest
	size int64

	release func() // gives the slot back

	// For the reader only.
	unread int64 // bytes that were not received yet
	whole  bool  // all were, and the server has said that all is well

	mu  sync.Mutex
	src *source // changed by the reader with mu held
	cur chunk   // received and not read; guarded by mu, on loan while it is used
	end error   // why there is no more; guarded by mu
}

// source is one stream.
type source struct {
	stream   grpc.ClientStream
	progress context.Context // its cause says why we gave the stream up
	stop     context.CancelCauseFunc
	patience *patience
}

func (s *source) close() {
	s.stop(nil)
	s.patience.timer.Stop()
}

// openContent starts a stream and waits for the header.
func openContent(ctx context.Context, b *blobs, req *blobstorev1.OpenBlobRequest) (*content, error) {
	c := &content{ctx: ctx, from: b, req: req, size: -1}
	if err := c.connect(req, &c.cur); err != nil {
		return nil, err
	}
	return c, nil
}

// connect starts a stream and reads its first message to ch.
func (c *content) connect(req *blobstorev1.OpenBlobRequest, ch *chunk) error {
	src, err := c.attach()
	if err != nil {
		return err
	}
	src.stream, err = c.from.client.OpenBlob(src.progress, req, chunkOptions()...)
	if err == nil {
		err = c.recv(ch)
	}
	if err == nil {
		err = c.begin(ch)
	}
	if err != nil {
		ch.free()
		if c.stalled() {
			err = c.fail(err)
		}
		src.close()
	}
	return err
}

// attach makes a new source the one that Close ends.
func (c *content) attach() (*source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return nil, c.end
	}
	src := new(source)
	src.progress, src.stop = context.WithCancelCause(c.ctx)
	src.patience = newPatience(c.from.limits.progress, func() { src.stop(errStalled) })
	if c.src != nil {
		c.src.close()
	}
	c.src = src
	return src, nil
}

// begin reads the header. That of a later stream must be about what is left.
func (c *content) begin(ch *chunk) error {
	first, ok := ch.rest.(*blobstorev1.OpenBlobResponse)
	if !ok || !ch.more || first.Header == nil {
		return registry.ErrInternal.Because(errors.New("the stream's first message has no header"))
	}
	size := first.Header.GetSize()
	if c.size < 0 {
		c.size, c.unread = size, size
	}
	if size != c.unread {
		return registry.ErrInternal.Because(fmt.Errorf("another replica has %d bytes where %d are left", size, c.unread))
	}
	return c.received(ch)
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
	return errors.Is(context.Cause(c.src.progress), errStalled) && c.ctx.Err() == nil
}

// chunkOptions are for calls that stream.
func chunkOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.ForceCodecV2(newCodec(0)), grpc.MaxCallRecvMsgSize(maxMessage)}
}

// recv receives the next message.
func (c *content) recv(ch *chunk) error {
	ch.rest = new(blobstorev1.OpenBlobResponse)
	return c.src.patience.during(func() error { return c.src.stream.RecvMsg(ch) })
}

// fail translates an error of the stream.
func (c *content) fail(err error) error {
	if c.stalled() {
		return registry.ErrUnavailable.Because(fmt.Errorf("no byte for %v", c.src.patience.limit))
	}
	return fromStatus(c.ctx, err)
}

// Size implements registry.Content.
func (c *content) Size() int64 { return c.size }

// Close implements registry.Content.
func (c *content) Close() error {
	c.finish(errClosed)
	c.release()
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
	c.src.close()
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

// resumes is how often a stream that broke is opened again before any byte has
// come: for about three seconds, in which a server restarts or others are found.
const resumes = 6

// receive gets the next chunk, over another stream if need be. It may be empty.
func (c *content) receive(ch *chunk) error {
	left := c.unread
	err := c.recv(ch)
	if err == nil {
		err = c.received(ch)
	}
	wait := c.from.limits.backoff
	for try := 1; err != nil && try <= resumes && neverArrived(err) && c.ctx.Err() == nil; try++ {
		ch.free()
		*ch = chunk{}
		c.unread = left
		if pause(c.ctx, wait) != nil {
			break
		}
		wait *= 2
		err = c.connect(&blobstorev1.OpenBlobRequest{
			Stored: c.req.GetStored(),
			Offset: c.req.GetOffset() + c.size - left,
			Length: left,
			Verify: c.req.GetVerify(),
		}, ch)
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
		n, err := ch.writeTo(w, c.from.pool)
		total += n
		c.giveBack(ch)
		if err != nil {
			return total, err
		}
	}
}
