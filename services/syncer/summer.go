package syncer

import (
	"hash"
	"time"
)

// quickTime is how fast a buffer must fill to be hashed beside the reading of the next
// one, which takes a second buffer: where bytes come more slowly there is time for both.
const quickTime = 20 * time.Millisecond

// summer hashes what arrives, in the order it arrives, in pieces that are worth it. Its
// hash is nobody else's until finish.
type summer struct {
	hash  hash.Hash
	buf   *[]byte // that is being filled
	n     int     // bytes in it
	since time.Time
	work  chan part    // to the goroutine that hashes; nil: there is none
	free  chan *[]byte // buffers that it has hashed
}

// part is a buffer with n bytes.
type part struct {
	buf *[]byte
	n   int
}

// room returns where to read to: at least one byte.
func (s *summer) room() []byte {
	if s.buf == nil {
		s.buf, s.n, s.since = buffers.Get().(*[]byte), 0, time.Now()
	}
	return (*s.buf)[s.n:]
}

// filled says that there are n bytes more in what room has returned.
func (s *summer) filled(n int) {
	if s.n += n; s.n < len(*s.buf) {
		return
	}
	if s.work == nil && time.Since(s.since) > quickTime {
		s.hash.Write((*s.buf)[:s.n])
		s.n, s.since = 0, time.Now()
		return
	}
	if s.work == nil {
		s.work, s.free = make(chan part), make(chan *[]byte, 1)
		s.free <- buffers.Get().(*[]byte)
		go func() {
			defer close(s.free)
			for p := range s.work {
				s.hash.Write((*p.buf)[:p.n])
				s.free <- p.buf
			}
		}()
	}
	s.work <- part{s.buf, s.n}
	s.buf, s.n, s.since = <-s.free, 0, time.Now()
}

// finish hashes what is left, and waits until all is.
func (s *summer) finish() {
	if s.work != nil {
		close(s.work)
		for b := range s.free {
			buffers.Put(b)
		}
	}
	if s.buf != nil {
		s.hash.Write((*s.buf)[:s.n])
		buffers.Put(s.buf)
	}
}
