package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/berth-registry/berth/registry"
)

func readTests() []test[*blobs] {
	return []test[*blobs]{
		{"OpenUnknown", testOpenUnknown},
		{"OpenEmpty", testOpenEmpty},
		{"OpenRanges", testOpenRanges},
		{"ReadKeepsTheReaderRules", testReadRules},
		{"WriteTo", testWriteTo},
		{"WriteToAFailingWriter", testWriteToFails},
		{"CloseEarly", testCloseEarly},
		{"CloseWhileReading", testCloseWhileReading},
		{"CancelWhileReading", testCancelWhileReading},
		{"OpenCanceled", testOpenCanceled},
		{"ManyReaders", testManyReaders},
		{"Check", testBlobsCheck},
	}
}

// big is the size of a blob that no single buffer holds: it crosses the borders
// of 1 MiB messages.
const big = 3<<20 + 17

func testOpenUnknown(t *testing.T, b *blobs) {
	s := b.push(t, "", noise(100, 1))
	for what, edit := range map[string]func(*registry.Stored){
		"larger than it is":     func(s *registry.Stored) { s.Size++ },
		"smaller than it is":    func(s *registry.Stored) { s.Size-- },
		"no locator":            func(s *registry.Stored) { s.Locator = "" },
		"another locator":       func(s *registry.Stored) { s.Locator += "x" },
		"locator climbing out":  func(s *registry.Stored) { s.Locator = "../../../../../../etc/hostname" },
		"locator from the root": func(s *registry.Stored) { s.Locator = "/etc/hostname" },
		"locator of a folder":   func(s *registry.Stored) { s.Locator = "." },
		"locator with NUL":      func(s *registry.Stored) { s.Locator = "a\x00b" },
		"long locator":          func(s *registry.Stored) { s.Locator = registry.Locator(strings.Repeat("a", 5000)) },
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			s := s
			edit(&s)
			for _, r := range []registry.Range{registry.Whole, {Offset: 0, Length: 1}} {
				c, err := b.Open(t.Context(), s, r)
				wantErr(t, "Open", err, registry.ErrBlobUnknown)
				if err == nil {
					c.Close()
				}
			}
			wantErr(t, "Verify", b.Verify(t.Context(), s, 0), registry.ErrBlobUnknown)
		})
	}
	b.checkContent(t, s, noise(100, 1))
}

func testOpenEmpty(t *testing.T, b *blobs) {
	s := b.push(t, "", nil)
	b.checkContent(t, s, nil)
	c, err := b.Open(t.Context(), s, registry.Whole)
	must(t, "Open", err)
	defer c.Close()
	if n, err := c.WriteTo(io.Discard); n != 0 || err != nil {
		t.Errorf("WriteTo: got %d, %v, want 0, nil", n, err)
	}
	_, err = b.Open(t.Context(), s, registry.Range{Offset: 0, Length: 1})
	wantErr(t, "Open of a byte it has not", err, registry.ErrRangeInvalid)
}

func testOpenRanges(t *testing.T, b *blobs) {
	for _, size := range []int{1000, big} {
		for _, verify := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d_bytes_verify_%t", size, verify), func(t *testing.T) {
				testRanges(t, b, noise(size, 2), verify)
			})
		}
	}
}

func testRanges(t *testing.T, b *blobs, data []byte, verify bool) {
	size := int64(len(data))
	s := b.push(t, "", data)
	for _, pair := range [][2]int64{
		{0, -1}, {0, 0}, {0, 1}, {0, size}, {1, -1}, {1, size - 1}, {size - 1, 1}, {size - 1, -1},
		{size, -1}, {size, 0}, {1000, 5000}, {1 << 20, 1 << 20}, {1<<20 - 1, 2}, {1<<20 + 1, 1<<20 + 1}, {2 << 20, -1},
	} {
		r := registry.Range{Offset: pair[0], Length: pair[1], Verify: verify}
		off, n, err := r.Resolve(size)
		if err != nil {
			continue // of a larger blob
		}
		c, err := b.Open(t.Context(), s, r)
		if err != nil {
			t.Errorf("Open %+v: %v", r, err)
			continue
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data[off:off+n]) {
			t.Errorf("range %+v: got %d bytes, error %v; want the %d bytes from %d", r, len(got), err, n, off)
		}
		if c.Size() != n {
			t.Errorf("range %+v: Size is %d, want %d", r, c.Size(), n)
		}
		must(t, "Close", c.Close())
	}
	for _, pair := range [][2]int64{
		{size + 1, -1}, {size + 1, 0}, {size, 1}, {0, size + 1}, {1, size}, {-1, 1}, {-1, -1},
		{1, math.MaxInt64}, {math.MaxInt64, 1}, {math.MaxInt64, -1}, {math.MinInt64, -1},
	} {
		r := registry.Range{Offset: pair[0], Length: pair[1], Verify: verify}
		c, err := b.Open(t.Context(), s, r)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, registry.ErrRangeInvalid) {
			t.Errorf("Open %+v of %d bytes: got error %v, want ErrRangeInvalid", r, size, err)
		}
	}
}

func testReadRules(t *testing.T, b *blobs) {
	data := noise(1<<20+100, 3)
	s := b.push(t, "", data)
	r := registry.Range{Offset: 50, Length: 1<<20 + 1}
	want := data[50 : 50+1<<20+1]
	open := func() registry.Content {
		c, err := b.Open(t.Context(), s, r)
		must(t, "Open", err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	if err := iotest.TestReader(struct{ io.Reader }{open()}, want); err != nil {
		t.Error(err)
	}
	c := open()
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("Read of nothing: got %d, %v, want 0, nil", n, err)
	}
	got, err := io.ReadAll(iotest.HalfReader(struct{ io.Reader }{c}))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, error %v; want %d", len(got), err, len(want))
	}
	for range 2 {
		if n, err := c.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("Read at the end: got %d, %v, want 0, EOF", n, err)
		}
	}
	if c.Size() != r.Length {
		t.Errorf("Size at the end is %d, want %d as at the start", c.Size(), r.Length)
	}
}

func testWriteTo(t *testing.T, b *blobs) {
	data := noise(big, 4)
	s := b.push(t, "", data)
	for _, r := range []registry.Range{registry.Whole, {Offset: 100, Length: 2<<20 + 5}} {
		off, n, err := r.Resolve(s.Size)
		must(t, "Resolve", err)
		for _, first := range []int{0, 1, 1000, 1<<20 - 1, 1 << 20, int(n)} {
			c, err := b.Open(t.Context(), s, r)
			must(t, "Open", err)
			head := make([]byte, first)
			_, err = io.ReadFull(c, head)
			must(t, "Read", err)
			var rest bytes.Buffer
			m, err := io.Copy(&rest, c)
			must(t, "WriteTo", err)
			if m != n-int64(first) || !bytes.Equal(append(head, rest.Bytes()...), data[off:off+n]) {
				t.Errorf("range %+v, WriteTo after %d bytes: got %d bytes, want the last %d", r, first, m, n-int64(first))
			}
			if m, err := c.WriteTo(&rest); m != 0 || err != nil {
				t.Errorf("WriteTo at the end: got %d, %v, want 0, nil", m, err)
			}
			must(t, "Close", c.Close())
		}
	}
}

// limitedWriter takes room bytes and fails then.
type limitedWriter struct {
	got  bytes.Buffer // not embedded: its ReadFrom would be one of the writer
	room int
}

var errFull = errors.New("writer is full")

func (w *limitedWriter) Write(p []byte) (int, error) {
	n, err := len(p), error(nil)
	if n > w.room {
		n, err = w.room, errFull
	}
	w.room -= n
	w.got.Write(p[:n])
	return n, err
}

func testWriteToFails(t *testing.T, b *blobs) {
	data := noise(big, 5)
	s := b.push(t, "", data)
	c, err := b.Open(t.Context(), s, registry.Whole)
	must(t, "Open", err)
	defer c.Close()
	w := &limitedWriter{room: 1<<20 + 500}
	n, err := c.WriteTo(w)
	wantErr(t, "WriteTo", err, errFull)
	if n != 1<<20+500 || !bytes.Equal(w.got.Bytes(), data[:n]) {
		t.Errorf("WriteTo: got %d, want %d, what the writer took", n, 1<<20+500)
	}
}

func testCloseEarly(t *testing.T, b *blobs) {
	data := noise(big, 6)
	s := b.push(t, "", data)
	for _, first := range []int{0, 1, 1 << 20, big} {
		c, err := b.Open(t.Context(), s, registry.Whole)
		must(t, "Open", err)
		_, err = io.ReadFull(c, make([]byte, first))
		must(t, "Read", err)
		must(t, "Close", c.Close())
		if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("Read after Close at %d: got %d, %v, want an error that is not EOF", first, n, err)
		}
		if n, err := c.WriteTo(io.Discard); n != 0 || err == nil {
			t.Errorf("WriteTo after Close at %d: got %d, %v, want an error", first, n, err)
		}
	}
	b.checkContent(t, s, data)
}

func testCloseWhileReading(t *testing.T, b *blobs) {
	data := noise(big, 7)
	s := b.push(t, "", data)
	for range 20 {
		c, err := b.Open(t.Context(), s, registry.Whole)
		must(t, "Open", err)
		reading := make(chan struct{})
		var closing sync.WaitGroup
		closing.Go(func() {
			<-reading
			c.Close()
		})
		got := make([]byte, 0, len(data))
		buf := make([]byte, 1000)
		for n := 0; err == nil; {
			n, err = c.Read(buf)
			if len(got) == 0 {
				close(reading)
			}
			got = append(got, buf[:n]...)
		}
		if !bytes.HasPrefix(data, got) {
			t.Error("read other bytes than were stored")
		}
		if err == io.EOF && len(got) != len(data) {
			t.Errorf("got EOF after %d of %d bytes", len(got), len(data))
		}
		closing.Wait()
	}
}

func testCancelWhileReading(t *testing.T, b *blobs) {
	data := noise(big, 8)
	s := b.push(t, "", data)
	for _, read := range []func(registry.Content) error{
		func(c registry.Content) error {
			buf := make([]byte, 64)
			for {
				if _, err := c.Read(buf); err != nil {
					return err
				}
				runtime.Gosched() // an implementation may close in a goroutine
			}
		},
		func(c registry.Content) error {
			_, err := c.WriteTo(writerFunc(func(p []byte) (int, error) {
				runtime.Gosched()
				return len(p), nil
			}))
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := b.Open(ctx, s, registry.Whole)
		must(t, "Open", err)
		_, err = io.ReadFull(c, make([]byte, 10))
		must(t, "Read", err)
		cancel()
		if err := read(c); err == nil || err == io.EOF {
			t.Errorf("reading on after the context ended: got %v, want an error", err)
		}
		c.Close()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func testOpenCanceled(t *testing.T, b *blobs) {
	s := b.push(t, "", noise(10, 9))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := b.Open(ctx, s, registry.Whole)
	if err == nil {
		c.Close()
	}
	wantCanceled(t, "Open", err)
}

func testManyReaders(t *testing.T, b *blobs) {
	data := noise(big, 10)
	s := b.push(t, "", data)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			r := registry.Range{Offset: int64(i) * 1000, Length: -1}
			c, err := b.Open(t.Context(), s, r)
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			defer c.Close()
			var got bytes.Buffer
			if _, err := io.Copy(&got, c); err != nil || !bytes.Equal(got.Bytes(), data[r.Offset:]) {
				t.Errorf("range %+v: got %d bytes, error %v", r, got.Len(), err)
			}
		})
	}
	all.Wait()
}

func testBlobsCheck(t *testing.T, b *blobs) {
	h, err := b.Check(t.Context())
	must(t, "Check", err)
	if h.ReadOnly != "" {
		t.Errorf("a new store is read-only: %s", h.ReadOnly)
	}
}
