package blobstore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync/atomic"
	"syscall"

	"github.com/berth-registry/berth/registry"
)

// checked is content of which nothing is handed on that was not compared with
// what it should be: a chunk with its checksum or, if there are no checksums,
// all of the blob with its digest. Without checksums all but the last chunk of a
// whole blob goes out before the digest is known, and the last one does not if
// it is wrong: such a body does not end well.
type checked struct {
	store  *Store
	pool   *pool
	ctx    context.Context // bounds the life of the content
	blob   registry.Stored
	inner  registry.Content
	place  InPlace   // inner, nil if chunks are held in buf
	sums   Sums      // nil: hash is compared
	hash   hash.Hash // of all that was looked at, if sums is nil
	made   *summer   // the checksums of the same, to be kept
	at     int64     // where in the blob the next chunk to look at begins
	end    int64     // where in the blob the content ends
	next   int64     // where in the blob the next byte to hand on is
	size   int64     // bytes of the content
	ready  int64     // bytes from next on that are good
	buf    *[]byte   // has the chunk that next is in, if inner is not in place; nil: there is none
	failed error     // why there is no more

	holding atomic.Bool // has the right to hold a chunk
}

// maxHeldChunks is how many streams may hold a chunk in memory at a time: 64 MiB
// at most. Others wait until one of them has handed its chunk on, so that clients which
// are slow share what there is. It does not concern what is on a local disk.
const maxHeldChunks = 64

// openChecked opens n bytes from offset on of b, to be checked.
func (s *Store) openChecked(ctx context.Context, p *pool, b registry.Stored, offset, n int64) (registry.Content, error) {
	var sums Sums
	if b.Size > ChunkSize {
		var err error
		if sums, err = p.driver.Sums(ctx, b); err != nil {
			return nil, err
		}
		if sums == nil && n < b.Size {
			// The part can't be told from the rest.
			if sums, err = s.verify(ctx, p, b, 0); err != nil {
				return nil, err
			}
		}
	}
	c := &checked{
		store: s, pool: p, ctx: ctx, blob: b, sums: sums, size: n,
		at: offset - offset%ChunkSize, next: offset, end: offset + n,
	}
	if sums == nil {
		c.at, c.hash, c.made = 0, newHash(b.Digest.Algorithm()), new(summer)
	}
	if n == 0 {
		return p.open(ctx, b, offset, 0)
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

// open opens what is below, such that reading it begins where it should.
func (c *checked) open() error {
	inner, err := c.pool.open(c.ctx, c.blob, c.next, c.size)
	if err != nil {
		return err
	}
	if place, ok := inner.(InPlace); ok {
		c.inner, c.place = inner, place
		return nil
	}
	if c.at != c.next || c.upTo() != c.end {
		inner.Close()
		if inner, err = c.pool.open(c.ctx, c.blob, c.at, c.upTo()-c.at); err != nil {
			return err
		}
	}
	c.inner = inner
	return nil
}

// hold waits until a chunk may be in memory.
func (c *checked) hold() error {
	if c.buf != nil {
		return nil
	}
	select {
	case c.store.held <- struct{}{}:
		c.holding.Store(true)
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.buf = c.store.buffers.large.get()
	return nil
}

// letGo gives the right to hold a chunk back. It reports whether there was one.
func (c *checked) letGo() bool {
	if !c.holding.CompareAndSwap(true, false) {
		return false
	}
	<-c.store.held
	return true
}

// upTo returns where in the blob the last chunk to look at ends.
func (c *checked) upTo() int64 {
	if c.sums == nil {
		return c.blob.Size
	}
	return min(chunks(c.end)*ChunkSize, c.blob.Size)
}

// Size implements [registry.Content].
func (c *checked) Size() int64 { return c.size }

// Close implements [registry.Content].
func (c *checked) Close() error {
	c.letGo() // the buffer is not given back: it may be on its way out at the moment
	return c.inner.Close()
}

// look makes bytes ready by looking at the next chunk. It returns io.EOF if
// there are no more.
func (c *checked) look() error {
	for c.failed == nil && c.ready == 0 {
		if c.next == c.end {
			return io.EOF
		}
		if c.failed = c.lookAt(min(ChunkSize, c.blob.Size-c.at)); c.failed != nil {
			c.letGo()
		}
	}
	return c.failed
}

// lookAt looks at the chunk of n bytes at c.at.
func (c *checked) lookAt(n int64) error {
	var sum uint32
	add := func(p []byte) {
		if c.sums != nil {
			sum = crc32.Update(sum, castagnoli, p)
			return
		}
		c.hash.Write(p)
		c.made.write(p)
	}
	if err := c.chunk(n, add); err != nil {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		return c.pool.unreadable(c.blob, err)
	}
	from := c.at
	c.at += n
	switch {
	case c.sums != nil && sum != c.sums.chunk(from):
		return c.pool.damaged(c.blob, fmt.Errorf("the chunk at %d of %s has another checksum", from, c.blob.Digest))
	case c.sums == nil && c.at == c.blob.Size:
		if got := sumOf(c.blob.Digest.Algorithm(), c.hash); got != c.blob.Digest {
			return c.pool.damaged(c.blob, fmt.Errorf("stored bytes of %s hash to %s", c.blob.Digest, got))
		}
		c.pool.keepSums(c.ctx, c.blob, c.made)
	}
	c.ready = max(min(c.at, c.end)-c.next, 0)
	return nil
}

// chunk hands the bytes of the chunk at c.at to add, and leaves them in c.buf
// unless they can be read again.
func (c *checked) chunk(n int64, add func([]byte)) error {
	if c.place == nil {
		if err := c.hold(); err != nil {
			return err
		}
		buf := (*c.buf)[:n]
		_, err := io.ReadFull(c.inner, buf)
		if err == nil {
			add(buf)
		}
		return err
	}
	buf := c.store.buffers.small.get()
	defer c.store.buffers.small.put(buf)
	for at := c.at; at < c.at+n; {
		call := c.pool.calls.Begin()
		m, err := c.place.ReadAt((*buf)[:min(int64(len(*buf)), c.at+n-at)], at)
		c.pool.calls.End(call)
		add((*buf)[:m])
		at += int64(m)
		if err != nil && at < c.at+n {
			return registry.CutOff(err)
		}
	}
	return nil
}

// held returns the ready bytes that are in memory.
func (c *checked) held() []byte {
	from := c.next % ChunkSize
	return (*c.buf)[from : from+c.ready]
}

// took notes that n bytes were handed on.
func (c *checked) took(n int64) {
	c.next += n
	if c.ready -= n; c.ready > 0 || c.buf == nil {
		return
	}
	if c.letGo() {
		c.store.buffers.large.put(c.buf)
	}
	c.buf = nil
}

// Read implements [registry.Content].
func (c *checked) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.look(); err != nil {
		return 0, err
	}
	var n int
	var err error
	if c.place == nil {
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		n = copy(p, c.held())
	} else {
		n, err = c.inner.Read(p[:min(int64(len(p)), c.ready)])
		err = registry.CutOff(err)
	}
	c.took(int64(n))
	return n, err
}

// WriteTo implements [registry.Content].
func (c *checked) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		err := c.look()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		var n int64
		if c.place == nil {
			var m int
			m, err = w.Write(c.held())
			n = int64(m)
			if err == nil && n < c.ready {
				err = io.ErrShortWrite
			}
		} else {
			n, err = c.place.SendTo(w, c.ready)
		}
		c.took(n)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// damaged counts a copy that is not what it should be and returns an error that
// says so.
func (p *pool) damaged(b registry.Stored, why error) error {
	p.meters.damaged.Inc()
	return registry.ErrDigestInvalid.Because(fmt.Errorf("copy %s: %w", b.Locator, why))
}

// unreadable is damaged for an error of the storage, if it says that bytes are
// lost. A copy that the storage can't reach now is not damaged.
func (p *pool) unreadable(b registry.Stored, err error) error {
	if errors.Is(err, syscall.EIO) {
		return p.damaged(b, err)
	}
	return p.failed(err)
}

// keepSums keeps the checksums of a blob whose bytes have been found to be right.
// Without them the blob is read as a whole the next time.
func (p *pool) keepSums(ctx context.Context, b registry.Stored, s *summer) {
	if b.Size <= ChunkSize {
		return
	}
	if err := p.driver.KeepSums(ctx, b, s.sums()); err != nil && ctx.Err() == nil {
		p.log.Warn("the checksums of a blob could not be kept", "digest", b.Digest, "error", err)
	}
}
