package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

var errSource = errors.New("source failed")

// A client of ours has all bytes and is gone before the stream's end: fine.
func TestContextEndsAfterContent(t *testing.T) {
	local := memory.NewBlobs()
	b := newPair().blobs(t, local)
	for _, size := range []int{0, 1000, 2 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := b.Open(ctx, put(t, local, pattern(size)), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		n, err := c.WriteTo(writerFunc(func(p []byte) (int, error) {
			if got += len(p); got == size {
				cancel()
			}
			return len(p), nil
		}))
		if n != int64(size) || err != nil {
			t.Errorf("got %d of %d bytes, %v", n, size, err)
		}
		c.Close()
		cancel()
	}
}

// Bytes that have arrived are not read once the context has ended.
func TestContextEndsContent(t *testing.T) {
	local := memory.NewBlobs()
	b := newPair().blobs(t, local)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := b.Open(ctx, put(t, local, pattern(1000)), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	n, err := c.Read(make([]byte, 10))
	wantErr(t, "Read", err, context.Canceled)
	if n != 0 {
		t.Errorf("got %d bytes", n)
	}
}

func TestServerGoneMidStream(t *testing.T) {
	p := newPair()
	local := memory.NewBlobs()
	s := put(t, local, pattern(8<<20))
	b := p.blobs(t, local)
	c, err := b.Open(t.Context(), s, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	p.srv.Stop()
	n, err := io.Copy(io.Discard, c)
	wantErr(t, "reading on", err, registry.ErrUnavailable)
	if n >= 8<<20-100 {
		t.Error("got all bytes: the test stopped the server too late")
	}
}

// oddServer is a server that others might have written: it knows the generated
// messages only, and sends what it is told.
type oddServer struct {
	blobstorev1.UnimplementedBlobServiceServer
	send []*blobstorev1.OpenBlobResponse
	end  error
}

func (s *oddServer) OpenBlob(_ *blobstorev1.OpenBlobRequest, stream grpc.ServerStreamingServer[blobstorev1.OpenBlobResponse]) error {
	for _, m := range s.send {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return s.end
}

func (s *oddServer) AppendUpload(stream grpc.ClientStreamingServer[blobstorev1.AppendUploadRequest, blobstorev1.AppendUploadResponse]) error {
	var u *blobstorev1.Upload
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&blobstorev1.AppendUploadResponse{Upload: u})
		}
		if err != nil {
			return err
		}
		if m.GetHeader() != nil {
			u = m.GetHeader().GetUpload()
		}
		u.Offset += int64(len(m.GetData()))
	}
}

func TestOrdinaryServer(t *testing.T) {
	header := func(n int64, data []byte) *blobstorev1.OpenBlobResponse {
		return &blobstorev1.OpenBlobResponse{Data: data, Header: &blobstorev1.OpenBlobHeader{Size: n}}
	}
	bare := func(data []byte) *blobstorev1.OpenBlobResponse { return &blobstorev1.OpenBlobResponse{Data: data} }
	data := pattern(100_000)
	for _, test := range []struct {
		name string
		send []*blobstorev1.OpenBlobResponse
		end  error
		open error // of Open
		read error
	}{
		{name: "in two", send: []*blobstorev1.OpenBlobResponse{header(100_000, nil), bare(data[:50_000]), bare(data[50_000:])}},
		{name: "empty messages", send: []*blobstorev1.OpenBlobResponse{header(100_000, data[:10]), bare(nil), bare(data[10:]), bare(nil)}},
		{name: "all with the header", send: []*blobstorev1.OpenBlobResponse{header(100_000, data)}},
		{name: "4 MiB", send: []*blobstorev1.OpenBlobResponse{header(4<<20, nil), bare(make([]byte, 4<<20))}},
		{name: "short", send: []*blobstorev1.OpenBlobResponse{header(100_001, data)}, read: io.ErrUnexpectedEOF},
		{name: "long", send: []*blobstorev1.OpenBlobResponse{header(99_999, nil), bare(data)}, read: registry.ErrInternal},
		{name: "long at once", send: []*blobstorev1.OpenBlobResponse{header(99_999, data)}, open: registry.ErrInternal},
		{name: "negative", send: []*blobstorev1.OpenBlobResponse{header(-1, nil)}, open: registry.ErrInternal},
		{name: "no header", send: []*blobstorev1.OpenBlobResponse{bare(data)}, open: registry.ErrInternal},
		{name: "nothing", open: registry.ErrInternal},
		{name: "more after the end", send: []*blobstorev1.OpenBlobResponse{header(100_000, nil), bare(data), bare(data)}, read: registry.ErrInternal},
		{name: "fails at once", send: []*blobstorev1.OpenBlobResponse{header(100_000, data)}, end: toStatus(registry.ErrStorageFull).Err(), open: registry.ErrStorageFull},
		{name: "fails at the end", send: []*blobstorev1.OpenBlobResponse{header(100_000, nil), bare(data)}, end: toStatus(registry.ErrStorageFull).Err(), read: registry.ErrStorageFull},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair()
			p.serveOrdinary(t, &oddServer{send: test.send, end: test.end})
			c, err := NewBlobs(p.conn).Open(t.Context(), registry.Stored{}, registry.Whole)
			if !errors.Is(err, test.open) {
				t.Fatalf("Open: got error %v, want %v", err, test.open)
			}
			if err != nil {
				return
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if !errors.Is(err, test.read) {
				t.Errorf("Read: got error %v, want %v", err, test.read)
			}
			if test.name == "fails at the end" && len(got) == len(data) {
				t.Error("got the last bytes of content that the server says is damaged")
			}
			if test.read == nil && int64(len(got)) != c.Size() {
				t.Errorf("got %d bytes, want %d", len(got), c.Size())
			}
			if test.read == nil && test.name != "4 MiB" && !bytes.Equal(got, data) {
				t.Error("got other bytes than were sent")
			}
		})
	}
	t.Run("append", func(t *testing.T) {
		p := newPair()
		p.serveOrdinary(t, new(oddServer))
		u, err := NewBlobs(p.conn).Append(t.Context(), registry.Upload{ID: "x", Offset: 5}, bytes.NewReader(pattern(3<<20)))
		if want := (registry.Upload{ID: "x", Offset: 5 + 3<<20}); err != nil || u != want {
			t.Errorf("got %+v, %v, want %+v", u, err, want)
		}
	})
}

// serveOrdinary starts a plain gRPC server for s.
func (p *pair) serveOrdinary(t *testing.T, s blobstorev1.BlobServiceServer) {
	t.Helper()
	p.serve(t, func(*grpc.Server) {}) // for the connection
	p.srv.Stop()
	plain := grpc.NewServer()
	blobstorev1.RegisterBlobServiceServer(plain, s)
	p.listen(t, plain)
}

func TestOrdinaryClient(t *testing.T) {
	p := newPair()
	local := memory.NewBlobs()
	p.blobs(t, local)
	client := blobstorev1.NewBlobServiceClient(p.conn)
	data := pattern(3<<20 + 1)

	start, err := client.StartUpload(t.Context(), &blobstorev1.StartUploadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	commit, err := client.CommitUpload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*blobstorev1.CommitUploadRequest{
		{Data: data[:10], Header: &blobstorev1.CommitUploadHeader{Upload: start.Upload, Digest: registry.SHA256.FromBytes(data).String()}},
		{},
		{Data: data[10 : 2<<20]},
		{Data: data[2<<20:]},
	} {
		if err := commit.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	done, err := commit.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ offset, length int64 }{{0, -1}, {7, 100}} {
		open, err := client.OpenBlob(t.Context(), &blobstorev1.OpenBlobRequest{Stored: done.Stored, Offset: part.offset, Length: part.length})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			m, err := open.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.GetData()...)
		}
		want := data
		if part.length >= 0 {
			want = data[part.offset : part.offset+part.length]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
	}
}

// Local content that ends early must not look whole on the other side.
func TestShortContent(t *testing.T) {
	for _, size := range []int{smallChunk, 3 << 20} {
		p := newPair()
		b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), open: func(context.Context, registry.Stored, registry.Range) (registry.Content, error) {
			return shortContent{Reader: bytes.NewReader(pattern(size - 1)), size: int64(size)}, nil
		}})
		c, err := b.Open(t.Context(), registry.Stored{Digest: registry.SHA256.FromString("")}, registry.Whole)
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			c.Close()
		}
		wantErr(t, "short content", err, io.ErrUnexpectedEOF)
	}
}

type shortContent struct {
	*bytes.Reader
	size int64
}

func (c shortContent) Size() int64  { return c.size }
func (c shortContent) Close() error { return nil }
