package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
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
// multipart upload is completed. Should the upload not be published then, its
// bytes can't be kept, see Sync.
func (u *upload) Reader(ctx context.Context) (io.ReadCloser, error) {
	u.inUse.RLock()
	defer u.inUse.RUnlock()
	if err := u.loadTail(ctx); err != nil {
		return nil, err
	}
	if len(u.parts) == 0 {
		if u.buf == nil {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		return io.NopCloser(bytes.NewReader((*u.buf)[:u.fill])), nil
	}
	u.mu.Lock()
	known := u.known
	u.mu.Unlock()
	if !known { // or nothing finds the object if the process ends before it has a name
		if err := u.save(ctx, blobstore.State{Offset: u.size()}); err != nil {
			return nil, err
		}
	}
	etags, err := u.sendLast(ctx)
	if err == nil {
		err = u.driver.client.complete(ctx, u.multi.key(u.driver), u.multi.id, etags)
	}
	if err != nil {
		return nil, unknown(err, registry.ErrUploadUnknown)
	}
	u.mu.Lock()
	u.sealed = true
	u.mu.Unlock()
	size := u.size()
	return u.driver.client.open(ctx, u.multi.key(u.driver), size, 0, size)
}

// copyPart is how much one request copies within the bucket.
const copyPart = 512 << 20

// move copies an object that was named for another digest to where d is looked
// for, and removes it. That is so only for uploads that were first committed as
// something else.
func (u *upload) move(ctx context.Context, d registry.Digest) (object, error) {
	c, from, size := u.driver.client, u.multi.key(u.driver), u.size()
	to := object{kind: named, id: u.id, nonce: newNonce()}
	key := u.driver.keys.data(to, d)
	id, err := c.begin(ctx, key)
	if err != nil {
		return object{}, err
	}
	var etags []string
	for at := int64(0); at < size && err == nil; at += copyPart {
		var etag string
		etag, err = c.copyPart(ctx, from, key, id, len(etags)+1, at, min(copyPart, size-at))
		etags = append(etags, etag)
	}
	if err == nil {
		err = c.complete(ctx, key, id, etags)
	}
	if err != nil {
		// What is left of it is swept.
		return object{}, unknown(err, registry.ErrUploadUnknown)
	}
	if err := c.remove(ctx, from); err != nil {
		return object{}, err
	}
	return to, nil
}
