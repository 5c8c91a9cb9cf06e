//go:build bench

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

const (
	s3Part     = 8 << 20 // as Berth has them
	s3InFlight = 4
)

// putBigS3 compares how fast a blob of 1 GiB comes into a bucket through Berth
// with a multipart upload of the same bytes straight to the server, in parts of
// the same size and with as many in flight, by a client that has all of them at
// hand and needs no digest. The server's CPU is in neither figure.
func putBigS3(t *testing.T, b *bench) []figure {
	big := newBigFile(t)
	server := s3test.Start(t)
	system := Start(t, Options{Topology: Linked, S3: server, Postgres: pgtest.Start(t, pgtest.Options{Durable: true}), Edit: quiet})
	direct := newMultipartClient(server)
	var through, straight []sample
	for n := range pick(b, 5, 2) {
		d, _ := big.stamp()
		syscall.Sync() // what the last push left to be written
		c := newBenchClient(system.URL(), "bench/big")
		through = append(through, contender{name: "through Berth", procs: system.Processes, work: func(t testing.TB) float64 {
			if err := big.put(c, d); err != nil {
				t.Fatal(err)
			}
			return 1
		}}.measure(t))
		syscall.Sync()
		straight = append(straight, contender{name: "multipart", work: func(t testing.TB) float64 {
			if err := direct.upload(t.Context(), fmt.Sprintf("bench/%d", n), big.bytes); err != nil {
				t.Fatal(err)
			}
			return 1
		}}.measure(t))
	}
	return []figure{
		{row: "PUT 1 GiB blob to S3: speed", berth: perGiB(through), peer: "multipart to the server itself " + perSecond(straight),
			value: ratio(through, straight, sample.rate), format: "%.2f ×", goal: atLeast(0.8)},
		{row: "PUT 1 GiB blob to S3: CPU", berth: perGiB(through),
			value: median(through, sample.cost), format: "%.2f CPU-s/GiB"},
	}
}

// multipartClient uploads to an S3 server at no cost that could be saved: nothing
// is hashed, neither here nor there.
type multipartClient struct{ api *s3.Client }

func newMultipartClient(server *s3test.Server) *multipartClient {
	return &multipartClient{s3.New(s3.Options{
		BaseEndpoint: &server.URL, Region: "us-east-1", UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(s3test.AccessKey, s3test.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		APIOptions:                 []func(*middleware.Stack) error{v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware},
	})}
}

func (c *multipartClient) upload(ctx context.Context, key string, b []byte) error {
	bucket := aws.String(s3test.Bucket)
	begun, err := c.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, len(b)/s3Part)
	errs := make([]error, s3InFlight)
	var next atomic.Int64
	var sending sync.WaitGroup
	for i := range errs {
		sending.Go(func() {
			for n := next.Add(1); int(n) <= len(parts) && errs[i] == nil; n = next.Add(1) {
				number := aws.Int32(int32(n))
				var out *s3.UploadPartOutput
				out, errs[i] = c.api.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: bucket, Key: &key, UploadId: begun.UploadId, PartNumber: number, Body: bytes.NewReader(b[(n-1)*s3Part : n*s3Part]),
				})
				if errs[i] == nil {
					parts[n-1] = types.CompletedPart{PartNumber: number, ETag: out.ETag}
				}
			}
		})
	}
	sending.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err = c.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: &key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}
