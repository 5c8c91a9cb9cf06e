package registrytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/berth-registry/berth/registry"
)

func appendTests() []test[*blobs] {
	return []test[*blobs]{
		{"Start", testStart},
		{"AppendInPieces", testAppendInPieces},
		{"AppendElsewhere", testAppendElsewhere},
		{"AppendFromAFailingReader", testAppendReaderFails},
		{"AppendsOverlap", testAppendsOverlap},
		{"CancelWhileAppending", testCancelWhileAppending},
		{"CallsCanceled", testBlobsCanceled},
		{"UploadUnknown", testUploadUnknown},
		{"Abort", testAbort},
		{"PoolUnknown", testPoolUnknown},
		{"SessionsBelongToAPool", testSessionPools},
	}
}

func testStart(t *testing.T, b *blobs) {
	seen := make(map[registry.UploadID]bool)
	for _, p := range append([]registry.Pool{""}, b.backend.Pools...) {
		for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512, ""} {
			before := time.Now().Truncate(time.Millisecond)
			u, err := b.Start(t.Context(), p, alg)
			must(t, "Start", err)
			if u.Pool != p || u.Offset != 0 {
				t.Errorf("Start in pool %q: got %+v, want that pool and offset 0", p, u)
			}
			if _, err := registry.ParseUploadID(string(u.ID)); err != nil {
				t.Errorf("Start: %q is no UUID of version 7", u.ID)
			}
			// One process may run on a clock of its own.
			if born := u.ID.Time(); born.Before(before.Add(-time.Minute)) || born.After(time.Now().Add(time.Minute)) {
				t.Errorf("Start: ID %s is of %v, want about %v", u.ID, born, before)
			}
			if seen[u.ID] {
				t.Errorf("Start: ID %s twice", u.ID)
			}
			seen[u.ID] = true
			b.checkOffset(t, u, 0)
		}
	}
}

func testAppendInPieces(t *testing.T, b *blobs) {
	data := noise(big, 20)
	u := b.start(t)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 400_003)
		u = b.append(t, u, rest[:n])
		b.checkOffset(t, u, u.Offset)
		rest = rest[n:]
	}
	u = b.append(t, u, nil)
	s, err := b.Commit(t.Context(), u, nil, sha256of(data))
	must(t, "Commit", err)
	checkStored(t, s, "", data, registry.SHA256)
	b.checkContent(t, s, data)

	// A reader of single bytes, and one that returns its last bytes with EOF.
	u = b.start(t)
	u, err = b.Append(t.Context(), u, iotest.OneByteReader(bytes.NewReader(data[:1000])))
	must(t, "Append", err)
	u, err = b.Append(t.Context(), u, iotest.DataErrReader(bytes.NewReader(data[1000:2000])))
	must(t, "Append", err)
	s, err = b.Commit(t.Context(), u, iotest.DataErrReader(bytes.NewReader(data[2000:3000])), sha256of(data[:3000]))
	must(t, "Commit", err)
	b.checkContent(t, s, data[:3000])
}

func testAppendElsewhere(t *testing.T, b *blobs) {
	data := noise(3000, 21)
	u := b.append(t, b.start(t), data[:1000])
	for _, off := range []int64{0, 999, 1001, 5000, -1} {
		at := u
		at.Offset = off
		_, err := b.Append(t.Context(), at, bytes.NewReader(data[1000:2000]))
		wantErr(t, "Append elsewhere", err, registry.ErrRangeInvalid)
		_, err = b.Commit(t.Context(), at, bytes.NewReader(data[1000:2000]), sha256of(data[:2000]))
		wantErr(t, "Commit elsewhere", err, registry.ErrRangeInvalid)
		_, err = b.Commit(t.Context(), at, nil, sha256of(data[:1000]))
		wantErr(t, "Commit of nothing elsewhere", err, registry.ErrRangeInvalid)
		b.checkOffset(t, u, 1000)
	}
	u = b.append(t, u, data[1000:])
	s, err := b.Commit(t.Context(), u, nil, sha256of(data))
	must(t, "Commit", err)
	b.checkContent(t, s, data)
}

var errReader = errors.New("the client went away")

// lastGasp is a reader whose last bytes come together with an error.
type lastGasp struct{ data []byte }

func (r *lastGasp) Read(p []byte) (int, error) {
	n := copy(p, r.data)
	r.data = r.data[n:]
	if len(r.data) == 0 {
		return n, errReader
	}
	return n, nil
}

func testAppendReaderFails(t *testing.T, b *blobs) {
	data := noise(big, 22)
	u := b.start(t)
	for _, n := range []int{0, 1, 1000, 2 << 20} {
		want := u
		want.Offset += int64(n)
		r := &lastGasp{data[u.Offset:want.Offset]}
		got, err := b.Append(t.Context(), u, r)
		wantErr(t, "Append from a reader that fails", err, errReader)
		if got != want {
			t.Fatalf("Append of %d bytes and an error: got state %+v, want %+v", n, got, want)
		}
		b.checkOffset(t, u, want.Offset)
		u = got
	}
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), sha256of(data))
	must(t, "Commit", err)
	b.checkContent(t, s, data)
}

// gate is a reader that says when it is first read and ends when it is opened.
type gate struct {
	data   io.Reader
	opened chan struct{}
	once   sync.Once
	read   chan struct{}
}

func newGate(data []byte) *gate {
	return &gate{data: bytes.NewReader(data), opened: make(chan struct{}), read: make(chan struct{})}
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.data.Read(p)
	if err == io.EOF {
		g.once.Do(func() { close(g.read) })
		<-g.opened
	}
	return n, err
}

func testAppendsOverlap(t *testing.T, b *blobs) {
	for _, slow := range [][]byte{noise(1000, 23), nil} {
		b.overlap(t, slow, noise(2000, 24))
	}
}

func (b *blobs) overlap(t *testing.T, slow, fast []byte) {
	u := b.start(t)
	g := newGate(slow)
	first := make(chan error, 1)
	go func() {
		_, err := b.Append(t.Context(), u, g)
		first <- err
	}()
	<-g.read
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// Where the first stands now, if its bytes are there already.
	now, err := b.Status(ctx, u)
	must(t, "Status", err)
	if now.Offset > 0 {
		_, err := b.Append(ctx, now, bytes.NewReader(fast))
		wantErr(t, "Append behind an Append that goes on", err, registry.ErrRangeInvalid)
		_, err = b.Commit(ctx, now, nil, sha256of(slow[:now.Offset]))
		wantErr(t, "Commit while an Append goes on", err, registry.ErrRangeInvalid)
	}
	// Where both start. Across a network the second may still be the earlier one.
	_, err2 := b.Append(ctx, u, bytes.NewReader(fast))
	_, errCommit := b.Commit(ctx, u, bytes.NewReader(fast), sha256of(fast))
	close(g.opened)
	err1 := <-first
	won := slow
	if err1 != nil {
		won = fast
		err1, err2 = err2, err1
	}
	must(t, "the Append that came first", err1)
	wantErr(t, "the Append that came later", err2, registry.ErrRangeInvalid)
	wantErr(t, "Commit meanwhile", errCommit, registry.ErrRangeInvalid)
	b.checkOffset(t, u, int64(len(won)))
	u.Offset = int64(len(won))
	s, err := b.Commit(t.Context(), u, nil, sha256of(won))
	must(t, "Commit", err)
	b.checkContent(t, s, won)
}

// cancelReader ends a context when its data is read, and goes on with zeros.
type cancelReader struct {
	data   io.Reader
	cancel func()
}

func (r *cancelReader) Read(p []byte) (int, error) {
	n, err := r.data.Read(p)
	if err != io.EOF {
		return n, err
	}
	r.cancel()
	clear(p)
	return len(p), nil
}

func testCancelWhileAppending(t *testing.T, b *blobs) {
	data := noise(big, 25)
	u := b.append(t, b.start(t), data[:1000])
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Append(ctx, u, &cancelReader{bytes.NewReader(data[1000 : 2<<20]), cancel})
	wantCanceled(t, "Append", err)
	got := b.settled(t, u)
	if got.Offset < 1000 {
		t.Errorf("the offset went back to %d from 1000", got.Offset)
	}
	// What arrived may include zeros of after the end.
	whole := data
	if over := got.Offset - 2<<20; over > 0 {
		whole = append(append(bytes.Clone(data[:2<<20]), make([]byte, over)...), data...)
	}
	s, err := b.Commit(t.Context(), got, bytes.NewReader(whole[got.Offset:]), sha256of(whole))
	must(t, "Commit of the rest", err)
	b.checkContent(t, s, whole)
}

// settled waits until a call that was cancelled no longer holds the session:
// an empty Append at the session's offset works again.
func (b *blobs) settled(t *testing.T, u registry.Upload) registry.Upload {
	t.Helper()
	eventually(t, "the end of the cancelled call", func() bool {
		now, err := b.Status(t.Context(), u)
		if err == nil {
			u, err = b.Append(t.Context(), now, bytes.NewReader(nil))
		}
		if err != nil && !errors.Is(err, registry.ErrRangeInvalid) {
			t.Fatalf("session after a cancelled call: %v", err)
		}
		return err == nil
	})
	return u
}

func testBlobsCanceled(t *testing.T, b *blobs) {
	data := noise(100, 26)
	s := b.push(t, "", data)
	u := b.append(t, b.start(t), data)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Start(ctx, "", registry.SHA256)
	wantCanceled(t, "Start", err)
	_, err = b.Status(ctx, u)
	wantCanceled(t, "Status", err)
	_, err = b.Append(ctx, u, bytes.NewReader(data))
	wantCanceled(t, "Append", err)
	_, err = b.Commit(ctx, b.settled(t, u), nil, sha256of(data))
	wantCanceled(t, "Commit", err)
	wantCanceled(t, "Verify", b.Verify(ctx, s, 0))
	_, err = b.Copies(ctx, "", nil, 10)
	wantCanceled(t, "Copies", err)
	b.checkContent(t, s, data)
}

func testUploadUnknown(t *testing.T, b *blobs) {
	for _, id := range []registry.UploadID{registry.NewUploadID(time.Now()), "", "x", "../../../etc", "019a0000-0000-7000-8000-00000000000/", "019a0000-0000-7000-8000-000000000000\x00"} {
		b.checkNoSession(t, registry.Upload{ID: id})
	}
}

// checkNoSession checks that every method refuses u.
func (b *blobs) checkNoSession(t *testing.T, u registry.Upload) {
	t.Helper()
	_, err := b.Status(t.Context(), u)
	wantErr(t, "Status", err, registry.ErrUploadUnknown)
	_, err = b.Append(t.Context(), u, bytes.NewReader(noise(10, 27)))
	wantErr(t, "Append", err, registry.ErrUploadUnknown)
	_, err = b.Commit(t.Context(), u, bytes.NewReader(noise(10, 27)), sha256of(noise(10, 27)))
	wantErr(t, "Commit", err, registry.ErrUploadUnknown)
	wantErr(t, "Abort", b.Abort(t.Context(), u), registry.ErrUploadUnknown)
}

func testAbort(t *testing.T, b *blobs) {
	for _, n := range []int{0, 1000} {
		u := b.append(t, b.start(t), noise(n, 28))
		must(t, "Abort", b.Abort(t.Context(), u))
		b.checkNoSession(t, u)
	}
	got, err := b.Copies(t.Context(), "", nil, 10)
	must(t, "Copies", err)
	if len(got) != 0 {
		t.Errorf("an aborted session left copies: %v", got)
	}
}

func testPoolUnknown(t *testing.T, b *blobs) {
	const p = registry.Pool("/no-such-pool")
	ctx := t.Context()
	s := b.push(t, "", noise(10, 29))
	s.Pool = p
	u := b.start(t)
	u.Pool = p
	_, err := b.Start(ctx, p, registry.SHA256)
	wantErr(t, "Start", err, registry.ErrUnavailable)
	_, err = b.Append(ctx, u, bytes.NewReader(nil))
	wantErr(t, "Append", err, registry.ErrUnavailable)
	_, err = b.Status(ctx, u)
	wantErr(t, "Status", err, registry.ErrUnavailable)
	_, err = b.Commit(ctx, u, nil, sha256of(nil))
	wantErr(t, "Commit", err, registry.ErrUnavailable)
	wantErr(t, "Abort", b.Abort(ctx, u), registry.ErrUnavailable)
	c, err := b.Open(ctx, s, registry.Whole)
	if err == nil {
		c.Close()
	}
	wantErr(t, "Open", err, registry.ErrUnavailable)
	wantErr(t, "Remove", b.Remove(ctx, s), registry.ErrUnavailable)
	wantErr(t, "Verify", b.Verify(ctx, s, 0), registry.ErrUnavailable)
	_, err = b.Copies(ctx, p, nil, 10)
	wantErr(t, "Copies", err, registry.ErrUnavailable)
}

func testSessionPools(t *testing.T, b *blobs) {
	for _, p := range b.backend.Pools {
		u := b.start(t)
		elsewhere := u
		elsewhere.Pool = p
		b.checkNoSession(t, elsewhere)
		b.checkOffset(t, u, 0)

		data := noise(1000, 30)
		s := b.push(t, p, data)
		b.checkContent(t, s, data)
		none, err := b.Copies(t.Context(), "", nil, 10)
		must(t, "Copies", err)
		if len(none) != 0 {
			t.Errorf("a blob of pool %q is in the default pool: %v", p, none)
		}
		inDefault := s
		inDefault.Pool = ""
		_, err = b.Open(t.Context(), inDefault, registry.Whole)
		wantErr(t, "Open in another pool", err, registry.ErrBlobUnknown)
	}
}
