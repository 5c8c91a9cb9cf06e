package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// Publish implements [blobstore.UploadFile]. Bytes come first, then the name of
// an anonymous object, then the state: what ends in between is either the
// upload as it was, and a copy that nobody was told of and that the sweep
// finds, or the copy. When ctx ends no bytes are sent any more, but what is left
// to do is done: an upload whose parts are one object can't be continued.
func (u *upload) Publish(ctx context.Context, d registry.Digest, sums blobstore.Sums) (registry.Locator, error) {
	u.inUse.RLock()
	defer u.inUse.RUnlock()
	if err := u.loadTail(ctx); err != nil {
		return "", err
	}
	u.mu.Lock()
	err, many := u.err, len(u.parts) > 0
	u.mu.Unlock()
	if err != nil {
		return "", err
	}
	size := u.size()
	var o object
	sending := ctx
	ctx, cancel := outlive(ctx, saveLimit)
	defer cancel()
	switch {
	case u.sealed:
		o = u.multi.object
	case many:
		o, err = u.putParts(sending, ctx, d)
	default:
		o, err = u.putWhole(sending, d)
	}
	if err == nil && many && o.kind == named && u.multi.digest != d {
		o, err = u.move(sending, d)
	}
	if err != nil {
		return "", err
	}
	drv := u.driver
	copied := registry.Stored{Digest: d, Size: size, Locator: o.locator()}
	if o.kind == anonymous {
		if err := drv.client.writeEmpty(ctx, drv.keys.name(o, d, size)); err != nil {
			return "", err
		}
	}
	if sums != nil {
		// Without them the blob is read as a whole once more.
		if err := drv.KeepSums(ctx, copied, sums); err != nil {
			drv.log.Warn("the checksums of a blob could not be kept", slog.String("digest", string(d)), slog.Any("error", err))
		}
	}
	err = u.end(ctx, copied)
	if other, lost := errors.AsType[*conflict](err); lost {
		// Who was first may have completed the same multipart upload. If nobody
		// else can know of ours, nobody was told of the object.
		if other.now.Object != copied.Locator && !u.known {
			if e := drv.Remove(ctx, copied); e != nil {
				drv.log.Warn("a copy that nobody needs could not be removed", slog.String("digest", string(d)), slog.Any("error", e))
			}
		}
		if other.now.Ended == published && other.now.Digest == d {
			return other.now.Object, nil // who was first has published the same
		}
		u.lose(err)
	}
	if err != nil {
		return "", err
	}
	return copied.Locator, nil
}

// end records that the upload was published as s.
func (u *upload) end(ctx context.Context, s registry.Stored) error {
	rec := record{Writer: newNonce(), Offset: s.Size, Object: s.Locator, Digest: s.Digest, Ended: published}
	_, err := u.driver.writeState(ctx, u.id, rec, nil, u.etag)
	return err
}

// putWhole writes an object of no more than one part.
func (u *upload) putWhole(ctx context.Context, d registry.Digest) (object, error) {
	o := object{kind: named, id: u.id, nonce: newNonce()}
	var b []byte
	if u.buf != nil {
		b = (*u.buf)[:u.fill]
	}
	_, err := u.driver.client.write(ctx, u.driver.keys.data(o, d), bytes.NewReader(b), int64(len(b)), condition{})
	return o, err
}

// putParts completes the multipart upload, within finish.
func (u *upload) putParts(ctx, finish context.Context, d registry.Digest) (object, error) {
	etags, err := u.sendLast(ctx)
	if err == nil {
		err = u.driver.client.complete(finish, u.multi.key(u.driver), u.multi.id, etags)
	}
	if err != nil {
		err = u.completed(ctx, u.multi.key(u.driver), d, err)
	}
	return u.multi.object, err
}

// outlive returns a context that ends some time after ctx.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// sendLast sends what does not fill a part and returns the ETags of all parts.
// The buffer is kept: should the upload not be completed, it goes on from it.
func (u *upload) sendLast(ctx context.Context) ([]string, error) {
	etags, err := u.etags(ctx, u.parts)
	if err != nil || u.fill == 0 {
		return etags, err
	}
	last, err := u.driver.client.part(ctx, u.multi.key(u.driver), u.multi.id, len(etags)+1, (*u.buf)[:u.fill])
	return append(etags, last), err
}

// goneLimit is how long a multipart upload that is gone may take to show up as
// an object, or its upload as published: then another call has completed it.
const goneLimit = 10 * time.Second

// completed finds out whether completing the multipart upload, which failed
// because of why, has succeeded all the same, in this call or in another.
func (u *upload) completed(ctx context.Context, key string, d registry.Digest, why error) error {
	if errors.Is(why, errBadPart) {
		return registry.ErrUploadUnknown.Because(fmt.Errorf("somebody else has written to the upload: %w", why))
	}
	size, deadline := u.size(), time.Now().Add(goneLimit)
	for try := 1; ; try++ {
		h, err := u.driver.client.head(ctx, key)
		switch {
		case err == nil && h.size == size:
			// Perhaps another call has put other bytes there.
			return u.driver.client.verify(ctx, key, size, d)
		case err != nil && !isNone(err):
			return err
		case !errors.Is(why, errNoUpload):
			return why
		}
		rec, _, err := u.driver.readState(ctx, u.id)
		if err != nil && !isNone(err) {
			return err
		}
		if rec.Ended != "" || time.Now().After(deadline) {
			return registry.ErrUploadUnknown.Because(fmt.Errorf("the parts are gone: %w", why))
		}
		if err := pause(ctx, backoff(try)); err != nil {
			return err
		}
	}
}
