package s3

import (
	"bytes"
	"context"
	"io"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// sumsKey returns the key of the checksums of a copy, false if it has none. What
// is no larger than a part is sent in one request: to keep checksums of it would
// take another, and it is soon read as a whole.
func (d *Driver) sumsKey(s registry.Stored) (string, bool) {
	o, ok := parseLocator(s.Locator)
	if _, err := registry.ParseDigest(s.Digest.String()); err != nil || !ok || s.Size <= partSize {
		return "", false
	}
	return d.keys.sums(o, s.Digest), true
}

// Sums implements [blobstore.Driver].
func (d *Driver) Sums(ctx context.Context, s registry.Stored) (blobstore.Sums, error) {
	key, ok := d.sumsKey(s)
	if !ok {
		return nil, nil
	}
	size := blobstore.SumsLength(s.Size)
	c, err := d.client.open(ctx, key, size, 0, size)
	if isNone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	return blobstore.DecodeSums(b, s), nil
}

// KeepSums implements [blobstore.Driver].
func (d *Driver) KeepSums(ctx context.Context, s registry.Stored, sums blobstore.Sums) error {
	key, ok := d.sumsKey(s)
	if !ok {
		return nil
	}
	b := sums.Encode(s)
	_, err := d.client.write(ctx, key, bytes.NewReader(b), int64(len(b)), condition{})
	return err
}
