package s3_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestSlowReadersTakeTurns: more clients read what is checked than may have a chunk in
// memory. Who has taken a chunk makes room for another before its next one.
func TestSlowReadersTakeTurns(t *testing.T) {
	const most = 64 // chunks in memory
	srv := s3test.Start(t)
	b := openStore(t, map[registry.Pool]config.Driver{"": srv.Driver(newRoot())})
	data := noise(2<<20+5, 3)
	s := push(t, b, data)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func() registry.Content {
		t.Helper()
		c, err := b.Open(ctx, s, registry.Range{Length: -1, Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := func(c registry.Content, n int) []byte {
		t.Helper()
		got := make([]byte, n)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	var all []registry.Content
	for range most {
		c := open()
		read(c, 1)
		all = append(all, c)
	}
	late := open()
	first := make(chan byte, 1)
	go func() {
		one := make([]byte, 1)
		if _, err := io.ReadFull(late, one); err != nil {
			t.Error(err)
		}
		first <- one[0]
	}()
	select {
	case <-first:
		t.Error("there are more chunks in memory")
	default:
	}
	read(all[0], 1<<20-1) // the rest of a chunk
	if got := <-first; got != data[0] {
		t.Errorf("got %d, want %d", got, data[0])
	}
	if err := late.Close(); err != nil { // in the middle of a chunk
		t.Fatal(err)
	}
	for i, c := range all {
		from := 1
		if i == 0 {
			from = 1 << 20
		}
		var got bytes.Buffer
		if _, err := c.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data[from:]) {
			t.Fatalf("stream %d: %d bytes, %v", i, got.Len(), err)
		}
		c.Close()
	}
	for range most { // nothing is held any more
		c := open()
		read(c, 1)
		defer c.Close()
	}
}
