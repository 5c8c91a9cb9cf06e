package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
)

// verify returns [registry.ErrDigestInvalid] unless the object's bytes, size of
// them, are blob d.
func (c *client) verify(ctx context.Context, key string, size int64, d registry.Digest) error {
	o, err := c.open(ctx, key, size, 0, size)
	if err != nil {
		return unknown(err, registry.ErrUploadUnknown)
	}
	defer o.Close()
	got, err := d.Algorithm().FromReader(o)
	if err != nil {
		return registry.ErrUnavailable.Because(err)
	}
	if got != d {
		return registry.ErrDigestInvalid.Because(fmt.Errorf("%s has the bytes of %s", key, got))
	}
	return nil
}

// Reader implements [blobstore.UploadFile]. Parts can't be read, so the
// multipart upload is completed, which is undone if the upload goes on.
func (u *upload) Reader(ctx context.Context) (io.ReadCloser, error) {
	if err := u.loadTail(ctx); err != nil {
		return nil, err
	}
	if !u.sealed && len(u.parts) == 0 {
		if u.buf == nil {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		return io.NopCloser(bytes.NewReader((*u.buf)[:u.fill])), nil
	}
	return nil, registry.ErrUnsupported.With("an object store needs to know before that a digest of another kind will be asked for")
}

func (u *upload) reopen(ctx context.Context) error { return u.loadTail(ctx) }

func (u *upload) rename(context.Context, registry.Digest) (object, error) { return object{}, nil }
func (u *upload) move(context.Context, registry.Digest) (object, error)   { return object{}, nil }
