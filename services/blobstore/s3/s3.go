package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// checkEvery is for how long the bucket is known to be in reach once it was.
const checkEvery = 5 * time.Second

// Driver implements [blobstore.Driver] in a bucket. Its methods may be called
// from many goroutines at once.
type Driver struct {
	meters       *atomic.Pointer[meters] // see Observe
	client       *client
	public       *s3.PresignClient // of the endpoint that clients are sent to
	keys         keys
	memory       *memory
	singleWriter bool // writes are not conditional, see Driver.replace
	single       sync.Mutex
	now          func() time.Time
	log          *slog.Logger

	mu      sync.Mutex // guards checked
	checked time.Time  // when Check last reached the bucket
}

var (
	_ blobstore.Driver  = (*Driver)(nil)
	_ blobstore.Sweeper = (*Driver)(nil)
)

// Traits implements [blobstore.Driver].
func (d *Driver) Traits() blobstore.Traits {
	return blobstore.Traits{Shared: true, Part: partSize}
}

// Check implements [blobstore.Driver]. It asks at most every five seconds.
func (d *Driver) Check(ctx context.Context) error {
	d.mu.Lock()
	fresh := time.Since(d.checked) < checkEvery
	d.mu.Unlock()
	if fresh {
		return ctx.Err()
	}
	if err := d.client.check(ctx); err != nil {
		return unavailable(err)
	}
	d.mu.Lock()
	d.checked = time.Now()
	d.mu.Unlock()
	return nil
}

// unavailable turns the lack of a whole bucket into what it is.
func unavailable(err error) error {
	if isNone(err) {
		return registry.ErrUnavailable.Because(err)
	}
	return err
}

// Close implements [blobstore.Driver].
func (d *Driver) Close() error {
	d.client.idle()
	return nil
}

// unknown turns "no such object" into an error for callers.
func unknown(err error, as *registry.Error) error {
	if isNone(err) {
		return as.Because(err)
	}
	return err
}

// Stat implements [blobstore.Driver].
func (d *Driver) Stat(ctx context.Context, dgst registry.Digest, l registry.Locator) (int64, error) {
	key, ok := d.keys.copyKey(dgst, l)
	if !ok {
		return 0, registry.ErrBlobUnknown
	}
	h, err := d.client.head(ctx, key)
	return h.size, unknown(err, registry.ErrBlobUnknown)
}

// Open implements [blobstore.Driver].
func (d *Driver) Open(ctx context.Context, s registry.Stored, offset, n int64) (registry.Content, error) {
	if n == 0 {
		size, err := d.Stat(ctx, s.Digest, s.Locator)
		if err == nil && size != s.Size {
			err = registry.ErrBlobUnknown
		}
		if err != nil {
			return nil, err
		}
		return emptyContent(ctx), nil
	}
	key, ok := d.keys.copyKey(s.Digest, s.Locator)
	if !ok {
		return nil, registry.ErrBlobUnknown
	}
	c, err := d.client.open(ctx, key, s.Size, offset, n)
	if err != nil {
		return nil, unknown(err, registry.ErrBlobUnknown)
	}
	return c, nil
}

// Remove implements [blobstore.Driver]. The bytes go first: a name without
// bytes is found again, bytes without a name are not. Checksums go before both.
func (d *Driver) Remove(ctx context.Context, s registry.Stored) error {
	key, ok := d.keys.copyKey(s.Digest, s.Locator)
	if !ok {
		return nil
	}
	if sums, ok := d.sumsKey(s); ok {
		if err := unknownIsGone(d.client.remove(ctx, sums)); err != nil {
			return err
		}
	}
	if err := d.client.remove(ctx, key); err != nil {
		return unknownIsGone(err)
	}
	o, _ := parseLocator(s.Locator)
	if o.kind == named {
		return nil
	}
	return unknownIsGone(d.client.remove(ctx, d.keys.name(o, s.Digest, s.Size)))
}

func unknownIsGone(err error) error {
	if isNone(err) {
		return nil
	}
	return err
}

// Published implements [blobstore.Driver].
func (d *Driver) Published(ctx context.Context, id registry.UploadID, dgst registry.Digest) (registry.Stored, error) {
	rec, _, err := d.readState(ctx, id)
	if err != nil && !isNone(err) {
		return registry.Stored{}, err
	}
	if err == nil && rec.Ended == published && rec.Digest == dgst {
		return d.stillThere(ctx, registry.Stored{Digest: dgst, Size: rec.Offset, Locator: rec.Object})
	}
	// A copy of an upload that was given up is about to be removed by whoever made
	// it too late.
	if err == nil && rec.Ended != "" {
		return registry.Stored{}, registry.ErrUploadUnknown
	}
	// The state has been swept, or the process ended before it was written.
	for _, in := range []struct {
		prefix string
		parse  func(string) (registry.Stored, bool)
	}{{d.keys.blobs(), d.keys.parseBlob}, {d.keys.names(), d.keys.parseName}} {
		found, _, err := d.client.list(ctx, in.prefix+digestPath(dgst)+string(id)+".", "", 1)
		if err != nil {
			return registry.Stored{}, err
		}
		if len(found) == 1 {
			if s, ok := in.parse(found[0].key); ok {
				return d.stillThere(ctx, s)
			}
		}
	}
	return registry.Stored{}, registry.ErrUploadUnknown
}

// stillThere returns s with its size, if it was not removed.
func (d *Driver) stillThere(ctx context.Context, s registry.Stored) (registry.Stored, error) {
	size, err := d.Stat(ctx, s.Digest, s.Locator)
	if errors.Is(err, registry.ErrBlobUnknown) {
		return registry.Stored{}, registry.ErrUploadUnknown.Because(err)
	}
	s.Size = size
	return s, err
}

// Copies implements [blobstore.Driver]. It merges two lists, each of which S3
// keeps in order.
func (d *Driver) Copies(ctx context.Context, after *registry.Stored, limit int) ([]registry.Stored, error) {
	from := ""
	if after != nil {
		o, ok := parseLocator(after.Locator)
		if _, err := registry.ParseDigest(after.Digest.String()); err != nil || !ok && after.Locator != "" {
			return nil, registry.ErrPageInvalid.With("no such copy to list from")
		}
		from = digestPath(after.Digest)
		if ok {
			from += o.suffix()
		}
		if o.kind == anonymous {
			from += "." + fmt.Sprint(after.Size)
		}
	}
	blobs, err := d.copies(ctx, d.keys.blobs(), from, limit, d.keys.parseBlob)
	if err != nil {
		return nil, err
	}
	names, err := d.copies(ctx, d.keys.names(), from, limit, d.keys.parseName)
	if err != nil {
		return nil, err
	}
	all := make([]registry.Stored, 0, len(blobs)+len(names))
	for len(blobs) > 0 || len(names) > 0 {
		if len(names) == 0 || len(blobs) > 0 && copyOrder(blobs[0]) < copyOrder(names[0]) {
			all, blobs = append(all, blobs[0]), blobs[1:]
		} else {
			all, names = append(all, names[0]), names[1:]
		}
	}
	return all[:min(len(all), limit)], nil
}

// copyOrder returns what copies are ordered by.
func copyOrder(s registry.Stored) string { return digestPath(s.Digest) + string(s.Locator[2:]) }

// copies lists at most limit copies below one prefix behind from.
func (d *Driver) copies(ctx context.Context, prefix, from string, limit int, parse func(string) (registry.Stored, bool)) ([]registry.Stored, error) {
	var all []registry.Stored
	if from != "" {
		from = prefix + from
	}
	for {
		page, more, err := d.client.list(ctx, prefix, from, limit)
		if err != nil {
			return nil, err
		}
		for _, o := range page {
			from = o.key
			s, ok := parse(o.key)
			if !ok {
				continue
			}
			if prefix == d.keys.blobs() {
				s.Size = o.size
			}
			if all = append(all, s); len(all) == limit {
				return all, nil
			}
		}
		if !more || len(page) == 0 {
			return all, nil
		}
	}
}
