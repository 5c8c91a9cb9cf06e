package s3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/registry"
)

// stored is a record as it was read.
type stored struct {
	etag string
	tail *content // the bytes behind the header, nil if there are none; to be closed
}

// readState reads the state of an upload, up to its tail, which it closes
// unless it is asked for. It returns errNoObject if there is none.
func (d *Driver) readState(ctx context.Context, id registry.UploadID) (record, string, error) {
	rec, st, err := d.openState(ctx, id)
	if st.tail != nil {
		st.tail.Close()
	}
	return rec, st.etag, err
}

// openState reads the state of an upload, up to its tail.
func (d *Driver) openState(ctx context.Context, id registry.UploadID) (_ record, _ stored, err error) {
	key := d.keys.state(id)
	c, err := d.client.openAny(ctx, key)
	if err != nil {
		return record{}, stored{}, err
	}
	rec, err := readRecord(c, c.size)
	if errors.Is(err, errRecord) {
		err = registry.ErrInternal.Because(fmt.Errorf("%w: %s", err, key))
	}
	if err != nil {
		c.Close()
		return record{}, stored{}, err
	}
	st := stored{etag: c.etag}
	if rec.Tail > 0 {
		st.tail = c
	} else {
		c.Close()
	}
	return rec, st, nil
}

// openAny opens an object of unknown size.
func (c *client) openAny(ctx context.Context, key string) (*content, error) {
	inner, cancel := context.WithCancel(ctx)
	for try := 1; ; try++ {
		out, err := c.api.GetObject(inner, &s3.GetObjectInput{Bucket: &c.bucket, Key: &key})
		if err != nil {
			cancel()
			return nil, failed(ctx, "reading "+key, err)
		}
		size := aws.ToInt64(out.ContentLength)
		if size > 0 && aws.ToString(out.ETag) != "" {
			return &content{
				client: c, key: key, ctx: inner, cancel: cancel,
				size: size, left: size, total: size, etag: *out.ETag, body: out.Body,
			}, nil
		}
		out.Body.Close()
		if try == maxResumes {
			cancel()
			return nil, answerError("no bytes or no ETag of %s", key)
		}
		if err := pause(ctx, backoff(try)); err != nil {
			cancel()
			return nil, err
		}
	}
}

// writeState replaces the state of an upload whose ETag is etag ("": there is
// none). It returns the new ETag, or what [Driver.conflict] says if somebody
// else was first.
func (d *Driver) writeState(ctx context.Context, id registry.UploadID, rec record, tail []byte, etag string) (string, error) {
	rec.Tail, rec.TailSum = int64(len(tail)), checksum(tail)
	h, err := rec.encode()
	if err != nil {
		return "", err
	}
	got, err := d.replace(ctx, d.keys.state(id), &twoSlices{a: h, b: tail}, int64(len(h)+len(tail)), etag)
	if err == nil || !errors.Is(err, errChanged) && !errors.Is(err, errNoObject) {
		return got, err
	}
	// Perhaps it was we: an attempt may succeed and its answer get lost.
	now, etag, readErr := d.readState(ctx, id)
	switch {
	case isNone(readErr):
		return "", registry.ErrUploadUnknown.Because(err)
	case readErr != nil:
		return "", readErr
	case now.Writer == rec.Writer:
		return etag, nil
	}
	return "", &conflict{now: now, err: err}
}

// replace writes a state if its ETag is etag ("": there is none). Without
// conditional writes it looks first, and nobody else in this process writes
// meanwhile.
func (d *Driver) replace(ctx context.Context, key string, body io.ReadSeeker, size int64, etag string) (string, error) {
	if !d.singleWriter {
		return d.client.write(ctx, key, body, size, condition{absent: etag == "", etag: etag})
	}
	d.single.Lock()
	defer d.single.Unlock()
	h, err := d.client.head(ctx, key)
	if err != nil && !isNone(err) {
		return "", err
	}
	if h.etag != etag {
		return "", errChanged
	}
	return d.client.write(ctx, key, body, size, condition{})
}

// conflict says that an upload is not where it was.
type conflict struct {
	now record
	err error
}

// Error returns the error as text.
func (c *conflict) Error() string {
	return fmt.Sprintf("somebody else continued the upload: %v", c.err)
}

// Unwrap returns what a caller is told.
func (c *conflict) Unwrap() error {
	if c.now.Ended != "" {
		return registry.ErrUploadUnknown
	}
	return registry.ErrRangeInvalid.With("the upload's offset is %d", c.now.Offset)
}

// twoSlices reads a and then b.
type twoSlices struct {
	a, b []byte
	at   int64
}

// Read implements [io.Reader].
func (s *twoSlices) Read(p []byte) (int, error) {
	n := 0
	if s.at < int64(len(s.a)) {
		n = copy(p, s.a[s.at:])
	}
	if rest := s.at + int64(n) - int64(len(s.a)); rest >= 0 && rest < int64(len(s.b)) {
		n += copy(p[n:], s.b[rest:])
	}
	s.at += int64(n)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements [io.Seeker].
func (s *twoSlices) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += int64(len(s.a) + len(s.b))
	}
	if offset < 0 {
		return 0, errors.New("seeking before the start")
	}
	s.at = offset
	return offset, nil
}
