package rpc

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
)

// cut returns b in buffers of the pool that are n bytes long, as a transport
// might have received them.
func cut(pool mem.BufferPool, b []byte, n int) mem.BufferSlice {
	var s mem.BufferSlice
	for part := range slices.Chunk(b, n) {
		buf := pool.Get(2048)
		*buf = (*buf)[:copy(*buf, part)]
		s = append(s, mem.NewBuffer(buf, pool))
	}
	return s
}

// FuzzChunk holds our codec against the generated message, both ways.
func FuzzChunk(f *testing.F) {
	message := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add([]byte{}, 1)
	f.Add([]byte{dataTag, 0}, 1)
	f.Add([]byte{dataTag, 0x80, 0}, 1) // a length that is longer than need be
	f.Add([]byte{dataTag, 3, 'a'}, 2)
	f.Add([]byte{dataTag, 1, 'a', dataTag, 1, 'b'}, 2)
	f.Add([]byte{dataTag, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 3)
	f.Add(message(&blobstorev1.AppendUploadRequest{Data: pattern(300)}), 1)
	f.Add(message(&blobstorev1.AppendUploadRequest{Data: pattern(300), SourceFailed: true}), 7)
	f.Add(message(&blobstorev1.AppendUploadRequest{Header: &blobstorev1.AppendUploadHeader{}}), 100)
	f.Fuzz(func(t *testing.T, wire []byte, n int) {
		pool := newCountingPool(t)
		c := newCodec(0)
		n = 1 + max(0, n)%2000

		want := new(blobstorev1.AppendUploadRequest)
		wantErr := proto.Unmarshal(wire, want)
		in := cut(pool, wire, n)
		ch := &chunk{rest: new(blobstorev1.AppendUploadRequest)}
		err := c.Unmarshal(in, ch)
		in.Free()
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got error %v, the generated message got %v", err, wantErr)
		}
		if err == nil {
			if more := ch.rest.(*blobstorev1.AppendUploadRequest); ch.more && !proto.Equal(more, want) {
				t.Errorf("got %v, want %v", more, want)
			}
			if bare := (want.Header == nil && !want.SourceFailed); !ch.more && !bare {
				t.Error("what is more than bare data was lost")
			}
			// The receiver sends on what it got, and the message is the same.
			out, err := c.Marshal(ch)
			if ch.off == 0 {
				if err != nil {
					t.Fatal(err)
				}
				back := new(blobstorev1.AppendUploadRequest)
				if err := proto.Unmarshal(out.Materialize(), back); err != nil {
					t.Fatal(err)
				}
				out.Free()
				if !bytes.Equal(back.Data, want.Data) {
					t.Errorf("sent %q, want %q", back.Data, want.Data)
				}
			}
			got, err := io.ReadAll(readerFunc(func(p []byte) (int, error) {
				if ch.len() == 0 {
					return 0, io.EOF
				}
				return ch.read(p[:min(len(p), 100)]), nil
			}))
			if err != nil || !bytes.Equal(got, want.Data) {
				t.Errorf("read %q, want %q", got, want.Data)
			}
		}
		ch.free()
		if len(pool.out) != 0 {
			t.Errorf("%d buffers were not freed", len(pool.out))
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A writer that fails gets no byte twice, and what it did not take stays.
func TestChunkWriteTo(t *testing.T) {
	pool := newCountingPool(t)
	data := pattern(9000)
	wire, err := proto.Marshal(&blobstorev1.OpenBlobResponse{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	in := cut(pool, wire, 2000)
	ch := &chunk{rest: new(blobstorev1.OpenBlobResponse)}
	if err := newCodec(0).Unmarshal(in, ch); err != nil {
		t.Fatal(err)
	}
	in.Free()
	full := errors.New("full")
	var got bytes.Buffer
	n, err := ch.writeTo(writerFunc(func(p []byte) (int, error) {
		take := min(len(p), 3500-got.Len())
		got.Write(p[:take])
		if take < len(p) {
			return take, full
		}
		return take, nil
	}), pool)
	if n != 3500 || err != full || ch.len() != 5500 {
		t.Fatalf("got %d, %v, %d left; want 3500, %v, 5500 left", n, err, ch.len(), full)
	}
	if n, err := ch.writeTo(writerFunc(func(p []byte) (int, error) { return 1, nil }), pool); n != 1 || err != io.ErrShortWrite {
		t.Errorf("a writer that writes less: got %d, %v, want 1, %v", n, err, io.ErrShortWrite)
	}
	got.Write(data[3500:3501])
	got.Write(make([]byte, 99))
	if n := ch.read(got.Bytes()[3501:]); n != 99 {
		t.Errorf("read %d bytes", n)
	}
	ch.unread(bytes.Clone(got.Bytes()[3590:]))
	got.Truncate(3590)
	if n, err := ch.writeTo(&got, pool); n != 5410 || err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got %d, %v, and the right bytes: %v", n, err, bytes.Equal(got.Bytes(), data))
	}
	for _, bufs := range []mem.BufferSlice{{mem.SliceBuffer("x")}, {mem.SliceBuffer("x"), mem.SliceBuffer("y")}} {
		ch := &chunk{bufs: bufs, left: bufs.Len()}
		if _, err := ch.writeTo(writerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), pool); err == nil {
			t.Error("no error for a writer that claims more than it was given")
		}
	}
	if len(pool.out) != 0 {
		t.Errorf("%d buffers were not freed", len(pool.out))
	}
}

// Only a manifest may make a request large.
func TestCodecLimitsRequests(t *testing.T) {
	c := newCodec(1000)
	for _, test := range []struct {
		size int
		to   any
		ok   bool
	}{
		{900, new(metadatav1.DeleteTagRequest), true},
		{1100, new(metadatav1.DeleteTagRequest), false},
		{1100, new(metadatav1.PutManifestRequest), true},
		{1100, &chunk{rest: new(blobstorev1.AppendUploadRequest)}, true},
	} {
		// Field 100 is unknown to all of them.
		wire := append([]byte{0xa2, 0x06, byte(test.size&0x7f | 0x80), byte(test.size >> 7)}, make([]byte, test.size)...)
		err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, test.to)
		if (err == nil) != test.ok {
			t.Errorf("%d bytes to %T: got error %v, want none: %v", test.size, test.to, err, test.ok)
		}
	}
}
