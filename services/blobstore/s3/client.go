package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// client makes single requests. Its errors are those of failed. An answer that
// lacks what every answer has, as a proxy in trouble makes them, is an error.
type client struct {
	api    *s3.Client
	bucket string
	put    putOptions
}

// putOptions go with everything that is written.
type putOptions struct {
	encryption types.ServerSideEncryption
	keyID      string
	class      types.StorageClass
	acl        types.ObjectCannedACL
}

// condition is when a write succeeds. The zero condition is always.
type condition struct {
	absent bool   // there is no such object
	etag   string // there is, and this is its ETag
}

// write puts an object and returns its ETag.
func (c *client) write(ctx context.Context, key string, body io.ReadSeeker, size int64, cond condition) (string, error) {
	in := &s3.PutObjectInput{
		Bucket: &c.bucket, Key: &key, Body: body, ContentLength: &size,
		ContentType:          aws.String("application/octet-stream"),
		ServerSideEncryption: c.put.encryption, StorageClass: c.put.class, ACL: c.put.acl,
	}
	if c.put.keyID != "" {
		in.SSEKMSKeyId = &c.put.keyID
	}
	switch {
	case cond.absent:
		in.IfNoneMatch = aws.String("*")
	case cond.etag != "":
		in.IfMatch = &cond.etag
	}
	out, err := c.api.PutObject(ctx, in)
	if err == nil && aws.ToString(out.ETag) == "" {
		err = fmt.Errorf("%w: no ETag", errAnswer)
	}
	if err != nil {
		return "", failed(ctx, "writing "+key, err)
	}
	return *out.ETag, nil
}

// writeEmpty puts an object of no bytes.
func (c *client) writeEmpty(ctx context.Context, key string) error {
	_, err := c.write(ctx, key, bytes.NewReader(nil), 0, condition{})
	return err
}

// head is what is known of an object without its bytes.
type head struct {
	size     int64
	etag     string
	modified time.Time
}

// head returns errNoObject if there is none.
func (c *client) head(ctx context.Context, key string) (head, error) {
	out, err := c.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.bucket, Key: &key})
	if err == nil && (out.ContentLength == nil || aws.ToString(out.ETag) == "") {
		err = fmt.Errorf("%w: no length or ETag", errAnswer)
	}
	if err != nil {
		return head{}, failed(ctx, "looking up "+key, err)
	}
	return head{size: *out.ContentLength, etag: *out.ETag, modified: aws.ToTime(out.LastModified)}, nil
}

// remove deletes an object, if there is one.
func (c *client) remove(ctx context.Context, key string) error {
	_, err := c.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.bucket, Key: &key})
	return failed(ctx, "removing "+key, err)
}

// removeMany deletes at most 1,000 objects, in one request if the store can.
func (c *client) removeMany(ctx context.Context, all []string) error {
	if len(all) == 0 {
		return nil
	}
	ids := make([]types.ObjectIdentifier, len(all))
	for i := range all {
		ids[i].Key = &all[i]
	}
	out, err := c.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &c.bucket, Delete: &types.Delete{Objects: ids}})
	if err != nil && unsupported(err) {
		for _, key := range all {
			if err := c.remove(ctx, key); err != nil {
				return err
			}
		}
		return nil
	}
	if err == nil && len(out.Errors) > 0 {
		e := out.Errors[0]
		err = fmt.Errorf("removing %s and %d more: %s: %s", aws.ToString(e.Key), len(out.Errors)-1, aws.ToString(e.Code), aws.ToString(e.Message))
	}
	return failed(ctx, fmt.Sprintf("removing %d objects", len(all)), err)
}

// listed is one object of a list.
type listed struct {
	key      string
	size     int64
	modified time.Time
}

// list returns at most limit objects below prefix behind the key after, and
// whether there are more.
func (c *client) list(ctx context.Context, prefix, after string, limit int) ([]listed, bool, error) {
	in := &s3.ListObjectsV2Input{Bucket: &c.bucket, Prefix: &prefix, MaxKeys: aws.Int32(int32(limit))}
	if after != "" {
		in.StartAfter = &after
	}
	out, err := c.page(ctx, in)
	for err == nil && len(out.Contents) == 0 && aws.ToBool(out.IsTruncated) && aws.ToString(out.NextContinuationToken) != "" {
		in.ContinuationToken = out.NextContinuationToken // an empty page is not the end
		out, err = c.page(ctx, in)
	}
	if err != nil {
		return nil, false, failed(ctx, "listing "+prefix, err)
	}
	all := make([]listed, len(out.Contents))
	for i, o := range out.Contents {
		all[i] = listed{key: aws.ToString(o.Key), size: aws.ToInt64(o.Size), modified: aws.ToTime(o.LastModified)}
	}
	return all, aws.ToBool(out.IsTruncated), nil
}

// page asks for one page of a list.
func (c *client) page(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	out, err := c.api.ListObjectsV2(ctx, in)
	// An answer with no body looks like an empty list.
	if err == nil && aws.ToString(out.Name) == "" {
		err = fmt.Errorf("%w: a list without its name", errAnswer)
	}
	return out, err
}

// check returns an error if the bucket can't be reached.
func (c *client) check(ctx context.Context) error {
	_, err := c.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &c.bucket})
	return failed(ctx, "looking for bucket "+c.bucket, err)
}

// idle closes connections that are not in use.
func (c *client) idle() {
	if h, ok := c.api.Options().HTTPClient.(interface{ CloseIdleConnections() }); ok {
		h.CloseIdleConnections()
	}
}
