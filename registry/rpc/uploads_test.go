package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

func start(t *testing.T, b registry.Blobs) registry.Upload {
	t.Helper()
	u, err := b.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// When the source fails the server keeps what arrived, and the caller gets the
// source's own error and the state.
func TestSourceFails(t *testing.T) {
	local := &faulty{Blobs: memory.NewBlobs()}
	local.append = func(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
		got, err := local.Blobs.Append(ctx, u, r)
		if err == nil {
			t.Error("the server took the failure for the end")
		}
		return got, err
	}
	b := newPair().blobs(t, local)
	data := pattern(3<<20 + 1)
	u := start(t, b)
	got, err := b.Append(t.Context(), u, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errSource)))
	wantErr(t, "Append", err, errSource)
	if want := (registry.Upload{ID: u.ID, Offset: int64(len(data))}); got != want {
		t.Errorf("got state %+v, want %+v", got, want)
	}
	// Had the server taken the failure for the end, this would commit.
	_, err = b.Commit(t.Context(), got, iotest.ErrReader(errSource), registry.SHA256.FromBytes(data))
	wantErr(t, "Commit", err, errSource)
	if _, err := b.Status(t.Context(), u); err != nil {
		t.Errorf("the session after the Commit whose source failed: %v", err)
	}
	s, err := b.Commit(t.Context(), got, nil, registry.SHA256.FromBytes(data))
	if err != nil || s.Size != int64(len(data)) {
		t.Errorf("Commit of what arrived: got %+v, %v", s, err)
	}
	// What the server says counts, whether or not the source has failed by then.
	_, err = b.Append(t.Context(), got, iotest.ErrReader(errSource))
	wantErr(t, "Append to nothing", err, registry.ErrUploadUnknown)
}

// A client stops reading its source when the server has had enough.
func TestServerHasEnough(t *testing.T) {
	local := &faulty{Blobs: memory.NewBlobs()}
	b := newPair().blobs(t, local)
	for _, test := range []struct {
		name string
		err  error
		read int // of the bytes, before it fails
	}{
		{"at once", registry.ErrRangeInvalid, 0},
		{"after a while", registry.ErrStorageFull, 2 << 20},
	} {
		local.append = func(_ context.Context, _ registry.Upload, r io.Reader) (registry.Upload, error) {
			_, err := io.ReadFull(r, make([]byte, test.read))
			return registry.Upload{}, errors.Join(err, test.err)
		}
		read := 0
		_, err := b.Append(t.Context(), start(t, local.Blobs), readerFunc(func(p []byte) (int, error) {
			read += len(p)
			return len(p), nil // for ever
		}))
		wantErr(t, test.name, err, test.err)
		if limit := test.read + 8<<20; read > limit {
			t.Errorf("%s: the client read %d bytes, want at most %d", test.name, read, limit)
		}
	}
}

// A server must not claim to have stored what was never sent.
func TestServerAnswersTooEarly(t *testing.T) {
	local := &faulty{Blobs: memory.NewBlobs(), append: func(_ context.Context, u registry.Upload, _ io.Reader) (registry.Upload, error) {
		return u, nil
	}}
	b := newPair().blobs(t, local)
	_, err := b.Append(t.Context(), start(t, local.Blobs), readerFunc(func(p []byte) (int, error) { return len(p), nil }))
	wantErr(t, "Append", err, registry.ErrInternal)
}

// An upload that the client gives up ends at the server, which keeps the bytes,
// even while the client's source is stuck.
func TestClientGone(t *testing.T) {
	within(t, readGrace, 3*time.Second, func(t *testing.T, p *pair) {
		local := &faulty{Blobs: memory.NewBlobs()}
		ended := make(chan registry.Upload, 1)
		local.append = func(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
			got, err := local.Blobs.Append(ctx, u, r)
			if err == nil {
				t.Error("the server took the end of the client for the end of the bytes")
			}
			ended <- got
			return got, err
		}
		b := p.blobs(t, local)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		stuck, release := once()
		_, err := b.Append(ctx, start(t, b), io.MultiReader(bytes.NewReader(pattern(2<<20)), readerFunc(func([]byte) (int, error) {
			<-stuck
			return 0, io.EOF
		})))
		release()
		wantErr(t, "Append", err, context.DeadlineExceeded)
		if got := <-ended; got.Offset != 2<<20 {
			t.Errorf("the server has %d bytes", got.Offset)
		}
	})
}

// Closing content ends it at the server.
func TestReaderGone(t *testing.T) {
	closed := make(chan struct{})
	local := &faulty{Blobs: memory.NewBlobs()}
	local.open = func(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
		c, err := local.Blobs.Open(ctx, s, r)
		return closeTold{c, closed}, err
	}
	b := newPair().blobs(t, local)
	c, err := b.Open(t.Context(), put(t, local.Blobs, pattern(20<<20)), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-closed
}

type closeTold struct {
	registry.Content
	closed chan struct{}
}

func (c closeTold) Close() error {
	close(c.closed)
	return c.Content.Close()
}
