package rpc

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
)

// sink is the end of a stream that takes chunks as gRPC does: it marshals them
// and frees what it got.
type sink struct {
	t     *testing.T
	got   bytes.Buffer
	sizes []int
	take  func() error // called before each; nil: take all at once
}

func (s *sink) send(ch *chunk) error {
	if s.take != nil {
		if err := s.take(); err != nil {
			return err
		}
	}
	out, err := newCodec(0).Marshal(ch)
	if err != nil {
		s.t.Fatal(err)
	}
	m := new(blobstorev1.OpenBlobResponse)
	if err := proto.Unmarshal(out.Materialize(), m); err != nil {
		s.t.Fatal(err)
	}
	out.Free()
	s.got.Write(m.GetData())
	s.sizes = append(s.sizes, len(m.GetData()))
	return nil
}

func TestPourFreesBuffers(t *testing.T) {
	data := pattern(4<<20 + 3)
	full := errors.New("full")
	for _, test := range []struct {
		name    string
		r       io.Reader
		take    func(n int) error // of the nth chunk
		readErr error
		sendErr error
	}{
		{name: "whole", r: bytes.NewReader(data)},
		{name: "byte by byte", r: iotest.OneByteReader(bytes.NewReader(data[:100_000]))},
		{name: "data with EOF", r: iotest.DataErrReader(bytes.NewReader(data))},
		{name: "empty", r: bytes.NewReader(nil)},
		{name: "source fails", r: io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errSource)), readErr: errSource},
		{name: "source yields nothing for ever", r: readerFunc(func([]byte) (int, error) { return 0, nil }), readErr: io.ErrNoProgress},
		{name: "source lies", r: readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), readErr: io.ErrNoProgress},
		{name: "sending fails", r: bytes.NewReader(data), sendErr: full, take: func(n int) error {
			if n == 7 {
				return full
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool := newCountingPool(t)
			n := 0
			s := &sink{t: t, take: func() error {
				n++
				if test.take != nil {
					return test.take(n)
				}
				return nil
			}}
			readErr, sendErr := pourer{send: s.send, pool: pool, flush: time.Hour}.pour(test.r)
			if readErr != test.readErr || sendErr != test.sendErr {
				t.Errorf("got %v, %v, want %v, %v", readErr, sendErr, test.readErr, test.sendErr)
			}
			if !bytes.HasPrefix(data, s.got.Bytes()) {
				t.Error("sent other bytes than were read")
			}
			pool.check(t)
		})
	}
}

// Whoever stops reading first: nothing leaks, and r is let alone.
func TestPourStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newCountingPool(t)
		stop, closeStop := once()
		pipe, w := io.Pipe()
		s := &sink{t: t}
		done := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			pourer{send: s.send, stop: stop, pool: pool, flush: time.Hour}.pour(pipe)
			done <- time.Since(start)
		}()
		_, _ = w.Write([]byte("some"))
		synctest.Wait()
		closeStop()
		if took := <-done; took != readGrace {
			t.Errorf("pour ended after %v, want %v of grace for the Read in progress", took, readGrace)
		}
		w.Close() // the Read ends after all
		synctest.Wait()
		pool.check(t)
	})
}

// A byte waits no longer than the flush time, however slowly others follow.
func TestPourFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newCountingPool(t)
		pipe, w := io.Pipe()
		s := &sink{t: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if readErr, sendErr := (pourer{send: s.send, pool: pool, flush: time.Second}).pour(pipe); readErr != nil || sendErr != nil {
				t.Errorf("got %v, %v", readErr, sendErr)
			}
		}()
		for i := range 100 {
			_, _ = w.Write([]byte{byte(i)})
			time.Sleep(time.Duration(i) * 50 * time.Millisecond)
			synctest.Wait()
			if i*50 > 1000 && s.got.Len() != i+1 {
				t.Fatalf("%d of %d bytes were sent", s.got.Len(), i+1)
			}
		}
		w.Close()
		<-done
		for i, b := range s.got.Bytes() {
			if int(b) != i {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		pool.check(t)
	})
}

// A peer gets large chunks once it has shown that it takes many, and small ones
// from when it becomes slow.
func TestPourSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{t: t}
		s.take = func() error {
			if len(s.sizes) == 43 {
				time.Sleep(slow)
			}
			return nil
		}
		pourer{send: s.send, pool: newCountingPool(t), flush: time.Hour}.pour(bytes.NewReader(make([]byte, 8<<20)))
		for i, size := range s.sizes[:len(s.sizes)-1] {
			want := smallChunk
			if small := proof / smallChunk; i >= small && i <= 43 || i > 43+small {
				want = largeChunk
			}
			if size != want {
				t.Errorf("chunk %d has %d bytes, want %d", i, size, want)
			}
		}
	})
}
