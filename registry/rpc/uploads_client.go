package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
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

// Commit is tried again when the network fails, at another replica if there is
// one: repeating one that succeeded gives the same answer.
func (b *blobs) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	if last == nil {
		last = bytes.NewReader(nil)
	}
	r := &noted{r: last}
	stored, err := b.commit(ctx, u, r, want)
	wait := b.limits.backoff
	for try := 1; try < 3 && brokenOff(err) && pause(ctx, wait) == nil; try++ {
		wait *= 2
		began, n, all := r.state()
		if !began { // nobody has the bytes
			stored, err = b.commit(ctx, u, r, want)
			continue
		}
		if !all {
			break // who has how many is for the caller to ask
		}
		// The server may have them all and its answer be lost.
		there := u
		there.Offset += n
		again, e := b.commit(ctx, there, bytes.NewReader(nil), want)
		if e != nil && n > 0 && !brokenOff(e) {
			break // it has not: the first error tells the caller what to do
		}
		stored, err = again, e
	}
	return stored, err
}

func (b *blobs) commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
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

// brokenOff reports whether err is what a call returns that the network broke.
func brokenOff(err error) bool {
	e, ok := errors.AsType[*registry.Error](err)
	return ok && e.Err != nil && neverArrived(e.Err)
}

// noted is a reader that knows what was read of it, safe to ask at any time.
type noted struct {
	r io.Reader

	mu    sync.Mutex
	began bool
	n     int64
	end   error
}

func (r *noted) Read(p []byte) (int, error) {
	r.mu.Lock()
	r.began = true
	r.mu.Unlock()
	n, err := r.r.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += int64(n)
	r.end = err
	return n, err
}

// state returns whether anything was asked for, how many bytes there were, and
// whether these are all.
func (r *noted) state() (began bool, n int64, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began, r.n, r.end == io.EOF
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
