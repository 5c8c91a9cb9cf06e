package disk

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestManyStreams lets many clients wait in the middle of a blob, more than get
// large buffers. One more is not held up, and all of them get through.
func TestManyStreams(t *testing.T) {
	_, s, err := openOn(t, t.TempDir(), boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	push := func(r io.Reader, b []byte) error {
		u, err := s.Start(context.Background(), "", "")
		if err != nil {
			return err
		}
		stored, err := s.Commit(context.Background(), u, r, registry.SHA256.FromBytes(b))
		if err != nil {
			return err
		}
		c, err := s.Open(context.Background(), stored, registry.Whole)
		if err != nil {
			return err
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes came back, %v; want the %d that were pushed", len(got), err, len(b))
		}
		return nil
	}
	const streams, half = 12, 1 << 20
	blobs, writers, results := make([][]byte, streams), make([]*io.PipeWriter, streams), make(chan error, streams)
	for i := range streams {
		b := noise(2*half+i, byte(i))
		r, w := io.Pipe()
		blobs[i], writers[i] = b, w
		go func() { results <- push(r, b) }()
		if _, err := w.Write(b[:half]); err != nil {
			t.Fatal(err)
		}
	}
	more := noise(3*half, 99)
	if err := push(bytes.NewReader(more), more); err != nil {
		t.Fatal(err)
	}
	for i, w := range writers {
		go func() {
			_, err := w.Write(blobs[i][half:])
			w.CloseWithError(err)
		}()
	}
	for range streams {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
