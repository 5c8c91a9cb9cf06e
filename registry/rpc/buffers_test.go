package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// readers read content in many ways. It is data, if they get to its end.
func readers(data []byte) map[string]func(*testing.T, registry.Content) {
	return map[string]func(*testing.T, registry.Content){
		"read whole": func(t *testing.T, c registry.Content) {
			if got, err := io.ReadAll(struct{ io.Reader }{c}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, error %v", len(got), err)
			}
		},
		"written whole": func(t *testing.T, c registry.Content) {
			var got bytes.Buffer
			if _, err := io.Copy(&got, c); err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("got %d bytes, error %v", got.Len(), err)
			}
		},
		"read in part": func(t *testing.T, c registry.Content) {
			_, _ = io.ReadFull(c, make([]byte, len(data)/2+7))
		},
		"not read": func(*testing.T, registry.Content) {},
		"to a writer that fails": func(t *testing.T, c registry.Content) {
			_, _ = c.WriteTo(writerFunc(func(p []byte) (int, error) { return len(p) / 2, errors.New("full") }))
		},
		"closed meanwhile": func(t *testing.T, c registry.Content) {
			_, err := c.WriteTo(writerFunc(func(p []byte) (int, error) {
				c.Close()
				return len(p), nil
			}))
			wantErr(t, "WriteTo", err, os.ErrClosed)
		},
	}
}

// What gRPC hands to us, content frees exactly once.
func TestContentFreesBuffers(t *testing.T) {
	data := pattern(50_000)
	for name, read := range readers(data) {
		t.Run(name, func(t *testing.T) {
			pool := newCountingPool(t)
			stream := &receivedStream{ctx: t.Context(), pool: pool, messages: []proto.Message{
				&blobstorev1.OpenBlobResponse{Header: &blobstorev1.OpenBlobHeader{Size: int64(len(data))}},
				&blobstorev1.OpenBlobResponse{Data: data[:20_000]},
				&blobstorev1.OpenBlobResponse{Data: data[20_000:]},
			}}
			c, err := NewBlobs(stream).Open(t.Context(), registry.Stored{}, registry.Whole)
			if err != nil {
				t.Fatal(err)
			}
			read(t, c)
			c.Close()
			c.Close()
			pool.check(t)
		})
	}
}

// receivedStream is a connection with one stream, on which messages arrive.
type receivedStream struct {
	grpc.ClientStream
	ctx      context.Context
	pool     *countingPool
	messages []proto.Message
}

func (s *receivedStream) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.ErrUnsupported
}

func (s *receivedStream) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return s, nil
}

func (s *receivedStream) SendMsg(any) error { return nil }
func (s *receivedStream) CloseSend() error  { return nil }

func (s *receivedStream) RecvMsg(m any) error {
	if len(s.messages) == 0 {
		return io.EOF
	}
	wire, err := proto.Marshal(s.messages[0])
	if err != nil {
		return err
	}
	s.messages = s.messages[1:]
	in := cut(s.pool, wire, 2000)
	defer in.Free()
	return newCodec(0).Unmarshal(in, m)
}

// All buffers come back after a stream that ended well. None is freed twice or
// used after, however it ended. (gRPC leaves what was on its way when a stream
// is reset to the garbage collector.)
func TestBuffersOverTheWire(t *testing.T) {
	data := pattern(5<<20 + 3)
	start := func(t *testing.T, local registry.Blobs) (*pair, *blobs) {
		p := newPair()
		p.pool, p.net = newCountingPool(t), newCountingPool(t)
		return p, p.blobs(t, local)
	}
	end := func(t *testing.T, p *pair, whole bool) {
		if whole {
			p.pool.check(t)
			p.stop()
			p.net.check(t)
		}
	}
	for name, read := range readers(data) {
		t.Run(name, func(t *testing.T) {
			local := memory.NewBlobs()
			p, b := start(t, local)
			c, err := b.Open(t.Context(), put(t, local, data), registry.Whole)
			if err != nil {
				t.Fatal(err)
			}
			read(t, c)
			c.Close()
			end(t, p, strings.HasSuffix(name, "whole"))
		})
	}
	for name, write := range map[string]func(t *testing.T, b *blobs, u registry.Upload){
		"commit whole": func(t *testing.T, b *blobs, u registry.Upload) {
			if _, err := b.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data)); err != nil {
				t.Error(err)
			}
		},
		"source fails": func(t *testing.T, b *blobs, u registry.Upload) {
			_, err := b.Append(t.Context(), u, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errSource)))
			wantErr(t, "Append", err, errSource)
		},
		"refused": func(t *testing.T, b *blobs, u registry.Upload) {
			u.Offset = 1
			_, err := b.Append(t.Context(), u, bytes.NewReader(data))
			wantErr(t, "Append", err, registry.ErrRangeInvalid)
		},
		"cancelled": func(t *testing.T, b *blobs, u registry.Upload) {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := b.Append(ctx, u, io.MultiReader(bytes.NewReader(data), readerFunc(func(p []byte) (int, error) {
				cancel()
				return len(p), nil
			})))
			wantErr(t, "Append", err, context.Canceled)
		},
	} {
		t.Run("upload "+name, func(t *testing.T) {
			p, b := start(t, memory.NewBlobs())
			u, err := b.Start(t.Context(), "", registry.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			write(t, b, u)
			end(t, p, strings.HasSuffix(name, "whole"))
		})
	}
}

// A client that stops reading costs no more than 3 MiB in both processes.
func TestStalledReaderMemory(t *testing.T) {
	for _, first := range []int{0, 40 << 10, 6 << 20} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair()
			p.pool, p.net = newCountingPool(t), newCountingPool(t)
			local := memory.NewBlobs()
			b := p.blobs(t, local)
			c, err := b.Open(t.Context(), put(t, local, pattern(32<<20)), registry.Whole)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, first)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := p.pool.now + p.net.now; got > 3<<20 {
				t.Errorf("after %d bytes: %d KiB in buffers of the sender and %d KiB of gRPC", first, p.pool.now>>10, p.net.now>>10)
			}
			c.Close()
			p.stop()
		})
	}
}
