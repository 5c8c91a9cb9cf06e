package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// within runs f in a bubble, where time is what the test makes of it, and checks
// how long it took.
func within(t *testing.T, least, most time.Duration, f func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		start := time.Now()
		f(t, p)
		if took := time.Since(start); took < least || took > most {
			t.Errorf("took %v, want %v to %v", took, least, most)
		}
		p.stop()
	})
}

func TestUnaryDeadlines(t *testing.T) {
	hang := func(ctx context.Context) (registry.Health, error) {
		<-ctx.Done()
		return registry.Health{}, ctx.Err()
	}
	t.Run("client", func(t *testing.T) {
		within(t, 30*time.Second, 31*time.Second, func(t *testing.T, p *pair) {
			b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), check: hang})
			_, err := b.Check(t.Context())
			wantErr(t, "Check", err, registry.ErrUnavailable)
		})
	})
	t.Run("server", func(t *testing.T) {
		within(t, 2*time.Minute, 2*time.Minute, func(t *testing.T, p *pair) {
			p.blobs(t, &faulty{Blobs: memory.NewBlobs(), check: hang})
			_, err := blobstorev1.NewBlobServiceClient(p.conn).Check(context.Background(), &blobstorev1.CheckRequest{})
			if err == nil {
				t.Error("no error")
			}
		})
	})
}

// stuckContent yields nothing until it is closed.
type stuckContent struct{ closed chan struct{} }

func (c stuckContent) Read([]byte) (int, error) {
	<-c.closed
	return 0, io.EOF
}
func (c stuckContent) WriteTo(io.Writer) (int64, error) { return 0, errors.ErrUnsupported }
func (c stuckContent) Size() int64                      { return 1 << 20 }
func (c stuckContent) Close() error                     { close(c.closed); return nil }

func TestClientGivesUpReading(t *testing.T) {
	within(t, 60*time.Second, 61*time.Second, func(t *testing.T, p *pair) {
		stuck := stuckContent{make(chan struct{})}
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), open: func(context.Context, registry.Stored, registry.Range) (registry.Content, error) {
			return stuck, nil
		}})
		c, err := b.Open(t.Context(), registry.Stored{Digest: registry.SHA256.FromString("")}, registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, c)
		wantErr(t, "reading", err, registry.ErrUnavailable)
		c.Close()
		<-stuck.closed // the server has ended, too
	})
}

func TestClientGivesUpOpening(t *testing.T) {
	within(t, 60*time.Second, 61*time.Second, func(t *testing.T, p *pair) {
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), open: func(ctx context.Context, _ registry.Stored, _ registry.Range) (registry.Content, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		_, err := b.Open(t.Context(), registry.Stored{Digest: registry.SHA256.FromString("")}, registry.Whole)
		wantErr(t, "Open", err, registry.ErrUnavailable)
	})
}

// A server lets go of a blob that nobody reads.
func TestServerGivesUpSending(t *testing.T) {
	within(t, 90*time.Second, 92*time.Second, func(t *testing.T, p *pair) {
		closed := make(chan struct{})
		local := &faulty{Blobs: memory.NewBlobs()}
		local.open = func(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
			c, err := local.Blobs.Open(ctx, s, r)
			return closeTold{c, closed}, err
		}
		b := p.blobs(t, local)
		c, err := b.Open(t.Context(), put(t, local.Blobs, pattern(8<<20)), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		<-closed
		_, err = io.Copy(io.Discard, c)
		wantErr(t, "reading after all", err, registry.ErrUnavailable)
		c.Close()
	})
}

// A server keeps what an uploader sent that says nothing any more.
func TestServerGivesUpReceiving(t *testing.T) {
	within(t, 90*time.Second, 93*time.Second, func(t *testing.T, p *pair) {
		b := p.blobs(t, memory.NewBlobs())
		u := start(t, b)
		pipe, w := io.Pipe()
		go w.Write([]byte("some bytes"))
		_, err := b.Append(t.Context(), u, pipe)
		wantErr(t, "Append", err, registry.ErrUnavailable)
		pipe.Close()
		synctest.Wait()
		if got, err := b.Status(t.Context(), u); err != nil || got.Offset != 10 {
			t.Errorf("got %+v, %v, want offset 10", got, err)
		}
	})
}

func TestClientGivesUpSending(t *testing.T) {
	within(t, 60*time.Second, 62*time.Second, func(t *testing.T, p *pair) {
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), append: func(ctx context.Context, u registry.Upload, _ io.Reader) (registry.Upload, error) {
			<-ctx.Done()
			return u, ctx.Err()
		}})
		_, err := b.Append(t.Context(), start(t, b), bytes.NewReader(pattern(8<<20)))
		wantErr(t, "Append", err, registry.ErrUnavailable)
	})
}

// Only the answer of an upload may take long.
func TestAnswerTakesLong(t *testing.T) {
	within(t, 10*time.Minute, 11*time.Minute, func(t *testing.T, p *pair) {
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), append: func(_ context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
			_, err := io.Copy(io.Discard, r)
			time.Sleep(10 * time.Minute)
			return u, err
		}})
		if _, err := b.Append(t.Context(), start(t, b), bytes.NewReader(pattern(100))); err != nil {
			t.Error(err)
		}
	})
}

// A slow reader is not a dead one: 20 KB/s with pauses of 50 s.
func TestHonestSlowReader(t *testing.T) {
	within(t, 5*time.Minute, 10*time.Minute, func(t *testing.T, p *pair) {
		local := memory.NewBlobs()
		data := pattern(8 << 20)
		b := p.blobs(t, local)
		c, err := b.Open(t.Context(), put(t, local, data), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		pause := 0
		_, err = c.WriteTo(writerFunc(func(p []byte) (int, error) {
			got.Write(p)
			if pause += len(p); pause >= 1<<20 {
				pause = 0
				time.Sleep(50 * time.Second)
			}
			return len(p), nil
		}))
		if err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
		c.Close()
	})
}

// Nor is one of 7 KB/s, from the start or after it was fast.
func TestVerySlowReader(t *testing.T) {
	for _, fast := range []int{0, 4 << 20} {
		within(t, 4*time.Minute, time.Hour, func(t *testing.T, p *pair) {
			local := memory.NewBlobs()
			data := pattern(fast + 4<<20)
			b := p.blobs(t, local)
			c, err := b.Open(t.Context(), put(t, local, data), registry.Whole)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			_, err = c.WriteTo(writerFunc(func(p []byte) (int, error) {
				if got += len(p); got > fast {
					time.Sleep(time.Duration(len(p)) * time.Second / 7000)
				}
				return len(p), nil
			}))
			if err != nil || got != len(data) {
				t.Errorf("fast for %d bytes: got %d of %d, %v", fast, got, len(data), err)
			}
			c.Close()
		})
	}
}

// The same for a source of 16 bytes every 50 s.
func TestHonestSlowWriter(t *testing.T) {
	within(t, 10*time.Minute, 11*time.Minute, func(t *testing.T, p *pair) {
		b := p.blobs(t, memory.NewBlobs())
		n := 0
		got, err := b.Append(t.Context(), start(t, b), readerFunc(func(p []byte) (int, error) {
			time.Sleep(50 * time.Second)
			if n++; n == 13 {
				return 0, io.EOF
			}
			return copy(p, pattern(16)), nil
		}))
		if err != nil || got.Offset != 12*16 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// A verification may take any time, as long as there are signs of life.
func TestVerifyTakesLong(t *testing.T) {
	s := registry.Stored{Digest: registry.SHA256.FromString("")}
	within(t, time.Hour, time.Hour+time.Second, func(t *testing.T, p *pair) {
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), verify: func(context.Context, registry.Stored) error {
			time.Sleep(time.Hour)
			return registry.ErrDigestInvalid
		}})
		wantErr(t, "Verify", b.Verify(t.Context(), s, 0), registry.ErrDigestInvalid)
	})
	within(t, time.Minute, 61*time.Second, func(t *testing.T, p *pair) {
		p.serve(t, func(srv *grpc.Server) {
			blobstorev1.RegisterBlobServiceServer(srv, silent{})
		})
		wantErr(t, "Verify of a silent server", newBlobs(p.conn, p.client, nil).Verify(t.Context(), s, 0), registry.ErrUnavailable)
	})
}

// silent is a server whose verification gives no sign of life.
type silent struct {
	blobstorev1.UnimplementedBlobServiceServer
}

func (silent) VerifyBlob(_ *blobstorev1.VerifyBlobRequest, stream grpc.ServerStreamingServer[blobstorev1.VerifyBlobResponse]) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}
