package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/registry"
)

// maxResumes is how many bodies in a row may break without a byte.
const maxResumes = 4

// content is a part of an object that is open. A body that breaks is continued
// by another request.
type content struct {
	client *client
	key    string
	ctx    context.Context
	cancel context.CancelFunc

	size  int64 // of the content
	at    int64 // where in the object the next byte is
	left  int64
	total int64  // bytes in the object
	etag  string // of the object, "" until the first answer
	tries int    // bodies that broke since the last byte

	mu     sync.Mutex // guards body against Close
	body   io.ReadCloser
	closed bool
}

// open opens n bytes from offset on of an object of total bytes. n is not 0. It
// returns errNoObject if there is no such object, or it has another size.
func (c *client) open(ctx context.Context, key string, total, offset, n int64) (*content, error) {
	ctx, cancel := context.WithCancel(ctx)
	o := &content{client: c, key: key, ctx: ctx, cancel: cancel, size: n, at: offset, left: n, total: total}
	if err := o.request(); err != nil {
		cancel()
		return nil, err
	}
	return o, nil
}

// request asks for what is left. An answer that is not exactly that is an error.
func (o *content) request() error {
	in := &s3.GetObjectInput{Bucket: &o.client.bucket, Key: &o.key}
	if o.left != o.total {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", o.at, o.at+o.left-1))
	}
	if o.etag != "" {
		in.IfMatch = &o.etag
	}
	for try := 1; ; try++ {
		out, err := o.client.api.GetObject(o.ctx, in)
		if err != nil {
			err = failed(o.ctx, "reading "+o.key, err)
			if o.etag == "" && isOutside(err) {
				return errors.Join(errNoObject, err) // it is shorter
			}
			return err
		}
		wrong := o.wrong(out)
		if wrong == nil {
			o.etag = aws.ToString(out.ETag)
			return o.use(out.Body)
		}
		out.Body.Close()
		// Whether it is the answer or the object that has another size is asked
		// for in another way.
		h, err := o.client.head(o.ctx, o.key)
		if err != nil {
			return err
		}
		if h.size != o.total {
			return errors.Join(errNoObject, fmt.Errorf("%s has %d bytes, not %d", o.key, h.size, o.total))
		}
		if try == maxResumes {
			return wrong
		}
		if err := pause(o.ctx, backoff(try)); err != nil {
			return err
		}
	}
}

// wrong returns what is wrong with an answer, nil if it is what was asked for.
func (o *content) wrong(out *s3.GetObjectOutput) error {
	length, total := aws.ToInt64(out.ContentLength), aws.ToInt64(out.ContentLength)
	if out.ContentRange != nil {
		var from, to int64
		if _, err := fmt.Sscanf(*out.ContentRange, "bytes %d-%d/%d", &from, &to, &total); err != nil || from != o.at {
			return answerError("the range %q", *out.ContentRange)
		}
	}
	switch {
	case aws.ToString(out.ETag) == "":
		return answerError("no ETag")
	case length != o.left:
		return answerError("%d bytes, not %d", length, o.left)
	case total != o.total:
		return answerError("a part of %d bytes, not of %d", total, o.total)
	}
	return nil
}

func answerError(format string, args ...any) error {
	return registry.ErrUnavailable.Because(fmt.Errorf("%w: %s", errAnswer, fmt.Sprintf(format, args...)))
}

// use makes body the one that is read.
func (o *content) use(body io.ReadCloser) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		body.Close()
		return fs.ErrClosed
	}
	o.body = body
	return nil
}

// Size implements [registry.Content].
func (o *content) Size() int64 { return o.size }

// Read implements [registry.Content].
func (o *content) Read(p []byte) (int, error) {
	for {
		if err := o.stopped(); err != nil {
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if o.left == 0 {
			return 0, io.EOF
		}
		n, err := o.body.Read(p[:min(int64(len(p)), o.left)])
		o.at += int64(n)
		o.left -= int64(n)
		if n > 0 {
			o.tries = 0
			return n, nil // an error comes again, or does not matter any more
		}
		if err != nil {
			if err := o.resume(err); err != nil {
				return 0, err
			}
		}
	}
}

// resume goes on after a body that ended too early because of why.
func (o *content) resume(why error) error {
	if err := o.stopped(); err != nil {
		return err
	}
	o.body.Close()
	o.tries++
	if o.tries > maxResumes {
		return fmt.Errorf("reading %s at %d: %w", o.key, o.at, registry.CutOff(why))
	}
	if err := pause(o.ctx, backoff(o.tries)); err != nil {
		return o.why(err)
	}
	if err := o.request(); err != nil {
		// What was there a moment ago is not an unknown blob to who reads it.
		return o.why(fmt.Errorf("reading %s on at %d: %w: %w", o.key, o.at, io.ErrUnexpectedEOF, err))
	}
	return nil
}

// copySize is how much WriteTo moves at a time.
const copySize = 128 << 10

var copies = sync.Pool{New: func() any {
	b := make([]byte, copySize)
	return &b
}}

// WriteTo implements [registry.Content].
func (o *content) WriteTo(w io.Writer) (int64, error) {
	buf := copies.Get().(*[]byte)
	defer copies.Put(buf)
	// Both would ask each other to do it.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{o}, *buf)
}

// stopped returns an error if the content was closed or its context has ended.
func (o *content) stopped() error {
	o.mu.Lock()
	closed := o.closed
	o.mu.Unlock()
	if closed {
		return fs.ErrClosed
	}
	return o.ctx.Err()
}

func (o *content) why(err error) error {
	if e := o.stopped(); e != nil {
		return e
	}
	return err
}

// Close implements [registry.Content].
func (o *content) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	o.cancel()
	return o.body.Close()
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
