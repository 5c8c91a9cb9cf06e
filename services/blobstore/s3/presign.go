package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

var _ blobstore.Presigner = (*Driver)(nil)

// Presign implements [blobstore.Presigner]. It makes no request.
func (d *Driver) Presign(ctx context.Context, s registry.Stored) (string, error) {
	key, ok := d.keys.copyKey(s.Digest, s.Locator)
	if !ok {
		return "", registry.ErrBlobUnknown
	}
	signed, err := d.public.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &d.client.bucket, Key: &key},
		s3.WithPresignExpires(registry.MaxPresigned))
	if err != nil {
		return "", failed(ctx, "signing a URL", err)
	}
	return signed.URL, nil
}
