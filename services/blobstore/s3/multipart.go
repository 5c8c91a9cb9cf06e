package s3

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// begin starts a multipart upload and returns its id.
func (c *client) begin(ctx context.Context, key string) (string, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &c.bucket, Key: &key, ContentType: aws.String("application/octet-stream"),
		ServerSideEncryption: c.put.encryption, StorageClass: c.put.class, ACL: c.put.acl,
	}
	if c.put.keyID != "" {
		in.SSEKMSKeyId = &c.put.keyID
	}
	out, err := c.api.CreateMultipartUpload(ctx, in)
	if err == nil && aws.ToString(out.UploadId) == "" {
		err = fmt.Errorf("%w: no upload id", errAnswer)
	}
	if err != nil {
		return "", failed(ctx, "beginning "+key, err)
	}
	return *out.UploadId, nil
}

// part sends one part, counted from 1, and returns its ETag.
func (c *client) part(ctx context.Context, key, upload string, number int, p []byte) (string, error) {
	out, err := c.api.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &c.bucket, Key: &key, UploadId: &upload, PartNumber: aws.Int32(int32(number)),
		Body: bytes.NewReader(p), ContentLength: aws.Int64(int64(len(p))),
	})
	if err == nil && aws.ToString(out.ETag) == "" {
		err = fmt.Errorf("%w: no ETag", errAnswer)
	}
	if err != nil {
		return "", failed(ctx, fmt.Sprintf("writing part %d of %s", number, key), err)
	}
	return *out.ETag, nil
}

// escaped makes a key for a header, which the SDK does not escape, of one for a query.
var escaped = strings.NewReplacer("+", "%20", "%2F", "/")

// copyPart makes n bytes from offset on of an object a part of another.
func (c *client) copyPart(ctx context.Context, from, key, upload string, number int, offset, n int64) (string, error) {
	out, err := c.api.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: &c.bucket, Key: &key, UploadId: &upload, PartNumber: aws.Int32(int32(number)),
		CopySource:      aws.String(escaped.Replace(url.QueryEscape(c.bucket + "/" + from))),
		CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+n-1)),
	})
	if err == nil && (out.CopyPartResult == nil || aws.ToString(out.CopyPartResult.ETag) == "") {
		err = fmt.Errorf("%w: no ETag", errAnswer)
	}
	if err != nil {
		return "", failed(ctx, "copying "+from, err)
	}
	return *out.CopyPartResult.ETag, nil
}

// complete makes an object of the parts with these ETags.
func (c *client) complete(ctx context.Context, key, upload string, etags []string) error {
	parts := make([]types.CompletedPart, len(etags))
	for i := range etags {
		parts[i] = types.CompletedPart{ETag: &etags[i], PartNumber: aws.Int32(int32(i + 1))}
	}
	out, err := c.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &c.bucket, Key: &key, UploadId: &upload,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	// S3 may fail after it has begun to answer with 200.
	if err == nil && aws.ToString(out.ETag) == "" {
		err = fmt.Errorf("%w: no ETag", errAnswer)
	}
	return failed(ctx, "completing "+key, err)
}

// abort gives a multipart upload up, if there is one.
func (c *client) abort(ctx context.Context, key, upload string) error {
	_, err := c.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &c.bucket, Key: &key, UploadId: &upload})
	if err = failed(ctx, "aborting "+key, err); isNone(err) {
		return nil
	}
	return err
}

// begun is a multipart upload in a list.
type begun struct {
	key, upload string
	at          time.Time
}

// multiparts lists at most 1,000 multipart uploads below prefix behind after
// (nil: from the start), and reports whether there are more.
func (c *client) multiparts(ctx context.Context, prefix string, after *begun) ([]begun, bool, error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &c.bucket, Prefix: &prefix, MaxUploads: aws.Int32(1000)}
	if after != nil {
		in.KeyMarker, in.UploadIdMarker = &after.key, &after.upload
	}
	out, err := c.api.ListMultipartUploads(ctx, in)
	if err == nil && aws.ToString(out.Bucket) == "" {
		err = fmt.Errorf("%w: a list without its bucket", errAnswer)
	}
	if err != nil {
		return nil, false, failed(ctx, "listing multipart uploads", err)
	}
	all := make([]begun, len(out.Uploads))
	for i, u := range out.Uploads {
		all[i] = begun{key: aws.ToString(u.Key), upload: aws.ToString(u.UploadId), at: aws.ToTime(u.Initiated)}
	}
	return all, aws.ToBool(out.IsTruncated) && len(all) > 0, nil
}

// partSizes returns the sizes of the parts of a multipart upload by ETag.
func (c *client) partSizes(ctx context.Context, key, upload string) (map[string]int64, error) {
	sizes := make(map[string]int64)
	var marker *string
	for {
		out, err := c.api.ListParts(ctx, &s3.ListPartsInput{Bucket: &c.bucket, Key: &key, UploadId: &upload, PartNumberMarker: marker})
		if err == nil && aws.ToString(out.Bucket) == "" {
			err = fmt.Errorf("%w: a list without its bucket", errAnswer)
		}
		if err != nil {
			return nil, failed(ctx, "listing the parts of "+key, err)
		}
		for _, p := range out.Parts {
			sizes[partID(int(aws.ToInt32(p.PartNumber)), aws.ToString(p.ETag))] = aws.ToInt64(p.Size)
		}
		if !aws.ToBool(out.IsTruncated) || len(out.Parts) == 0 {
			return sizes, nil
		}
		marker = out.NextPartNumberMarker
	}
}

func partID(number int, etag string) string { return fmt.Sprintf("%d %s", number, etag) }
