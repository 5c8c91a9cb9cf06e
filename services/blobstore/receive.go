package blobstore

import (
	"context"
	"io"
	"time"
)

// maxHeld is how long received bytes wait for a buffer to get full.
const maxHeld = time.Second

// fill reads from r until p is full, r ends, or bytes have waited for others for
// maxHeld.
func fill(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	var first time.Time
	for empty := 0; n < len(p); {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := r.Read(p[n:])
		n += m
		switch {
		case err != nil:
			return n, err
		case m == 0:
			if empty++; empty == 100 {
				return n, io.ErrNoProgress
			}
		case n < len(p):
			empty = 0
			if first.IsZero() {
				first = time.Now()
			} else if time.Since(first) > maxHeld {
				return n, nil
			}
		}
	}
	return n, nil
}

// receive appends the bytes of r to the session. It returns the error of r, nil
// for io.EOF, or that of the storage; what was written before is hashed.
func (s *Store) receive(ctx context.Context, p *pool, ses *session, r io.Reader) error {
	if ended, err := s.receiveSlowly(ctx, p, ses, r); ended || err != nil {
		return err
	}
	defer s.buffers.noLongerFast()
	return stream(ctx, p, ses, r, &s.buffers.large)
}

// receiveSlowly is receive with one small buffer. It returns before r has ended as
// soon as the stream may have large ones.
func (s *Store) receiveSlowly(ctx context.Context, p *pool, ses *session, r io.Reader) (ended bool, err error) {
	buf := s.buffers.slow.get()
	defer s.buffers.slow.put(buf)
	for {
		n, rerr := fill(ctx, r, p.upTo(ses, *buf))
		n, err := p.write(ctx, ses, (*buf)[:n])
		ses.hash.write((*buf)[:n])
		switch {
		case err != nil:
			return false, err
		case rerr != nil:
			return true, notEOF(rerr)
		case s.buffers.mayBeFast():
			return false, nil
		}
		if err := p.syncIfDue(ses); err != nil {
			return false, err
		}
	}
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// blockAlign is what the offsets of writes are multiples of where they can be: a disk
// takes whole blocks faster.
const blockAlign = 4096

// upTo returns as much of buf as may be written at once, and from where the next write
// begins at a block.
func (p *pool) upTo(ses *session, buf []byte) []byte {
	if p.part == 0 {
		return buf[:int64(len(buf))-ses.offset.Load()%blockAlign]
	}
	return buf[:min(int64(len(buf)), p.part-ses.offset.Load()%p.part)]
}

// write appends b to the session's file, if there is room. Its bytes are not
// hashed yet.
func (p *pool) write(ctx context.Context, ses *session, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := p.room(); err != nil {
		return 0, err
	}
	if ses.dirtySince.IsZero() {
		ses.dirtySince = time.Now()
	}
	call := p.calls.Begin()
	n, err := ses.file.Write(ctx, b)
	p.calls.End(call)
	ses.offset.Add(int64(n))
	return n, err
}

// filled is a buffer with n bytes to be hashed.
type filled struct {
	buf *[]byte
	n   int
}

// stream is receive with large buffers: one goroutine hashes while this one reads
// and writes.
func stream(ctx context.Context, p *pool, ses *session, r io.Reader, buffers *lender) error {
	work, free := make(chan filled, streamBuffers), make(chan *[]byte, streamBuffers)
	go func() {
		defer close(free)
		for f := range work {
			ses.hash.write((*f.buf)[:f.n])
			free <- f.buf
		}
	}()
	made, hashing := 0, 0 // buffers made; buffers the other goroutine has
	var spare []*[]byte

	// hashed waits until all that was written is hashed.
	hashed := func() {
		for ; hashing > 0; hashing-- {
			spare = append(spare, <-free)
		}
	}
	defer func() {
		close(work)
		for b := range free {
			spare = append(spare, b)
		}
		for _, b := range spare {
			buffers.put(b)
		}
	}()

	for {
		if p.due(ses) {
			hashed()
			if err := p.syncIfDue(ses); err != nil {
				return err
			}
		}
		var buf *[]byte
		switch {
		case len(spare) > 0:
			buf, spare = spare[len(spare)-1], spare[:len(spare)-1]
		case made < streamBuffers:
			buf, made = buffers.get(), made+1
		default:
			buf = <-free
			hashing--
		}
		n, rerr := fill(ctx, r, p.upTo(ses, *buf))
		n, err := p.write(ctx, ses, (*buf)[:n])
		work <- filled{buf, n}
		hashing++
		switch {
		case err != nil:
			return err
		case rerr != nil:
			return notEOF(rerr)
		}
	}
}
