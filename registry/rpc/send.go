package rpc

import (
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
)

const (
	// largeChunk is how many bytes a chunk has when its peer keeps up, and
	// smallChunk when it does not, or has not shown it yet. A peer that takes many
	// and then none keeps three of them waiting here.
	largeChunk = 256 << 10
	smallChunk = 32 << 10

	// proof is how many bytes a peer must have taken in quick succession to be
	// sent large chunks: more than fit in a stream's window and our own queue, so
	// that a peer that reads nothing never gets one.
	proof = streamWindow + 256<<10

	// slow is the time to take one chunk from which a peer counts as slow. One
	// that takes a small chunk in less reads at 32 KiB/s or more, so a large one
	// moves within the progress time.
	slow = time.Second

	// readGrace is how long a Read may go on after the call it was for has ended,
	// before it is left to itself.
	readGrace = time.Second
)

// newPool returns a pool that has buffers for chunks and for what is sent of one
// that isn't full. gRPC's own pool has no size between 32 KiB and 1 MiB.
func newPool() mem.BufferPool {
	return mem.NewTieredBufferPool(4<<10, smallChunk, largeChunk)
}

// sizer chooses the size of the next chunk.
type sizer struct{ quick int }

func (s *sizer) next() int {
	if s.quick >= proof {
		return largeChunk
	}
	return smallChunk
}

// sent notes that n bytes were taken in d.
func (s *sizer) sent(n int, d time.Duration) {
	if d >= slow {
		s.quick = 0
		return
	}
	s.quick = min(s.quick+n, proof)
}

// pourer sends what a reader yields in chunks.
type pourer struct {
	send  func(*chunk) error
	stop  <-chan struct{} // closed when there is no use in reading on
	pool  mem.BufferPool
	flush time.Duration
}

// pour sends r to its end. A chunk that isn't full waits no longer than about
// p.flush for more bytes. It returns r's error, nil if that is io.EOF, and the
// error of sending, after which r is not read any further. When p.stop closes,
// it returns nil and nil.
//
// It reads r in another goroutine, which has ended when pour returns, unless a
// Read outlasts the end of sending by [readGrace].
func (p pourer) pour(r io.Reader) (readErr, sendErr error) {
	f := &filler{r: r, ask: make(chan *[]byte), full: make(chan filled, 1)}
	go f.run()
	defer close(f.ask)

	tick := time.NewTimer(p.flush)
	defer tick.Stop()
	var size sizer
	for {
		buf := p.pool.Get(size.next())
		f.note(0)
		f.ask <- buf
		got, sendErr, ok := p.whileFilling(f, buf, &size, tick)
		if !ok {
			p.abandon(f, buf)
			return nil, sendErr
		}
		*buf = (*buf)[:got.n]
		b := mem.NewBuffer(buf, p.pool)
		if got.n > got.sent {
			sendErr = p.sendPart(b, got.sent, &size)
		}
		b.Free()
		switch {
		case sendErr != nil:
			return nil, sendErr
		case got.err == io.EOF:
			return nil, nil
		case got.err != nil:
			return got.err, nil
		}
	}
}

// whileFilling waits until buf is filled. Meanwhile it sends a copy of what is
// in it at every tick. It is not ok if filling goes on but sending is over.
func (p pourer) whileFilling(f *filler, buf *[]byte, size *sizer, tick *time.Timer) (got filled, sendErr error, ok bool) {
	sent := 0
	tick.Reset(p.flush)
	for {
		select {
		case got := <-f.full:
			got.sent = sent
			return got, nil, true
		case <-p.stop:
			return filled{}, nil, false
		case <-tick.C:
			if n := f.count(); n > sent {
				b := mem.Copy((*buf)[sent:n], p.pool)
				err := p.sendPart(b, 0, size)
				b.Free()
				if err != nil {
					return filled{}, err, false
				}
				sent = n
			}
			tick.Reset(p.flush)
		}
	}
}

// sendPart sends the bytes of b from the given one on.
func (p pourer) sendPart(b mem.Buffer, from int, size *sizer) error {
	part := b.Slice(from, b.Len())
	defer part.Free()
	start := time.Now()
	err := p.send(&chunk{bufs: mem.BufferSlice{part}, left: part.Len()})
	size.sent(part.Len(), time.Since(start))
	return err
}

// abandon waits for the Read in progress, but not for long.
func (p pourer) abandon(f *filler, buf *[]byte) {
	f.enough.Store(true)
	grace := time.NewTimer(readGrace)
	defer grace.Stop()
	select {
	case <-f.full:
		p.pool.Put(buf)
	case <-grace.C:
		go func() {
			<-f.full
			p.pool.Put(buf)
		}()
	}
}

// filler reads r into buffers, in a goroutine of its own.
type filler struct {
	r      io.Reader
	ask    chan *[]byte // buffers to fill; closed at the end
	full   chan filled  // one answer for each
	enough atomic.Bool  // no further Read is wanted

	mu sync.Mutex
	n  int // bytes in the buffer, guarded by mu
}

// filled says how the filling of a buffer ended.
type filled struct {
	n    int   // bytes in it
	sent int   // of these, how many were sent meanwhile
	err  error // of the reader
}

func (f *filler) run() {
	for buf := range f.ask {
		n, err := f.fill(*buf)
		f.full <- filled{n: n, err: err}
	}
}

func (f *filler) fill(buf []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	for empty := 0; n < len(buf) && err == nil && !f.enough.Load(); {
		var m int
		m, err = f.r.Read(buf[n:])
		if m < 0 || m > len(buf)-n {
			return n, io.ErrNoProgress
		}
		n += m
		f.note(n)
		if m > 0 || err != nil {
			empty = 0
		} else if empty++; empty == 100 {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

func (f *filler) note(n int) {
	f.mu.Lock()
	f.n = n
	f.mu.Unlock()
}

// count returns how many bytes are in the buffer. Those do not change any more.
func (f *filler) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
