package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
)

func (b *blobs) Append(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
	resp := new(blobstorev1.AppendUploadResponse)
	up := upload{
		open: func(ctx context.Context) (grpc.ClientStream, error) {
			return b.client.AppendUpload(ctx, chunkOptions()...)
		},
		header: &blobstorev1.AppendUploadRequest{Header: &blobstorev1.AppendUploadHeader{Upload: uploadToWire(u)}},
		failed: &blobstorev1.AppendUploadRequest{SourceFailed: true},
		answer: resp,
	}
	err := up.run(ctx, b, r)
	if resp.GetUpload() == nil {
		return u, err
	}
	return uploadFromWire(resp.GetUpload()), err
}

func (b *blobs) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	if last == nil {
		last = bytes.NewReader(nil)
	}
	resp := new(blobstorev1.CommitUploadResponse)
	up := upload{
		open: func(ctx context.Context) (grpc.ClientStream, error) {
			return b.client.CommitUpload(ctx, chunkOptions()...)
		},
		header: &blobstorev1.CommitUploadRequest{Header: &blobstorev1.CommitUploadHeader{
			Upload: uploadToWire(u), Digest: text(want.String()),
		}},
		failed: &blobstorev1.CommitUploadRequest{SourceFailed: true},
		answer: resp,
		early:  true, // a commit that is repeated needs no bytes
	}
	if err := up.run(ctx, b, last); err != nil {
		return registry.Stored{}, err
	}
	return storedFromWire(resp.GetStored()), nil
}

// upload is a stream of bytes to the server with one answer.
type upload struct {
	open   func(context.Context) (grpc.ClientStream, error)
	header proto.Message // the first message
	failed proto.Message // the last one, if the source failed
	answer proto.Message // filled in
	early  bool          // the server may succeed before it has all bytes
}

// run sends r and waits for the answer. The server may answer before it has got
// all; r is not read any further then. If r fails the server is told, so that
// it knows that these were not all bytes, and r's error is returned together
// with the answer.
func (up upload) run(ctx context.Context, b *blobs, r io.Reader) error {
	var readErr error
	err := watch(ctx, b.limits, func(ctx context.Context, p *patience) error {
		stream, err := up.open(ctx)
		if err != nil {
			return err
		}
		answered, answer := once()
		var answerErr error
		go func() {
			defer answer()
			answerErr = stream.RecvMsg(up.answer)
		}()
		send := func(m any) error { return p.during(func() error { return stream.SendMsg(m) }) }

		err = send(up.header)
		if err == nil {
			out := pourer{
				send:  func(ch *chunk) error { return send(ch) },
				stop:  answered,
				pool:  b.pool,
				flush: b.limits.flush,
			}
			readErr, err = out.pour(r)
		}
		if err == nil && readErr != nil {
			err = send(up.failed)
		}
		// What an io.EOF of sending means is in the answer.
		early := !up.early && (err != nil || isClosed(answered))
		_ = stream.CloseSend()
		p.limit = b.limits.finish
		_ = p.during(func() error {
			<-answered
			return nil
		})
		if answerErr == nil && early {
			return registry.ErrInternal.Because(errors.New("the server answered before it had all bytes"))
		}
		return answerErr
	})
	if readErr != nil {
		return errors.Join(readErr, err)
	}
	return err
}

// watch runs f, a call that streams. f's context ends when its patience does.
// The error it returns is translated.
func watch(ctx context.Context, l limits, f func(context.Context, *patience) error) error {
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p := newPatience(l.progress, func() { stop(errStalled) })
	defer p.timer.Stop()
	start := time.Now()
	err := f(inner, p)
	if err != nil && errors.Is(context.Cause(inner), errStalled) && ctx.Err() == nil {
		return registry.ErrUnavailable.Because(fmt.Errorf("nothing moved for %v, after %v", p.limit, time.Since(start)))
	}
	return fromStatus(ctx, err)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// endOfStream returns nil for the good end of a stream.
func endOfStream(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
