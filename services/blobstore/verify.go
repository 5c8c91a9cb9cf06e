package blobstore

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Verify implements [registry.Reaper]. Checksums that are missing, or are not
// those of the bytes, are made anew.
func (s *Store) Verify(ctx context.Context, b registry.Stored, rate int64) error {
	p, err := s.pool(ctx, b.Pool)
	if err != nil {
		return err
	}
	if !named(b) {
		return registry.ErrBlobUnknown
	}
	_, err = s.verify(ctx, p, b, rate)
	return p.failed(err)
}

// verify returns the checksums of the copy b, whose bytes are those of its digest.
func (s *Store) verify(ctx context.Context, p *pool, b registry.Stored, rate int64) (Sums, error) {
	c, err := p.open(ctx, b, 0, b.Size)
	if err != nil {
		return nil, p.unreadable(b, err)
	}
	defer c.Close()
	buf := s.buffers.small.get()
	defer s.buffers.small.put(buf)
	all := hashes{sums: new(summer)}
	hash := newHash(b.Digest.Algorithm())
	pace := pacer{rate: rate, began: time.Now()}
	for {
		call := p.calls.Begin()
		n, err := c.Read(*buf)
		p.calls.End(call)
		hash.Write((*buf)[:n])
		all.write((*buf)[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, p.unreadable(b, fmt.Errorf("reading %s: %w", b.Digest, err))
		}
		if err := pace.wait(ctx, n); err != nil {
			return nil, err
		}
	}
	p.meters.verified.Add(b.Size)
	if got := sumOf(b.Digest.Algorithm(), hash); got != b.Digest {
		return nil, p.damaged(b, fmt.Errorf("stored bytes of %s hash to %s", b.Digest, got))
	}
	if b.Size > ChunkSize {
		if kept, err := p.driver.Sums(ctx, b); err == nil && string(kept) != string(all.sums.sums()) {
			p.keepSums(ctx, b, all.sums)
		}
	}
	return all.sums.sums(), nil
}

// pacer keeps reading to a rate.
type pacer struct {
	rate  int64 // bytes a second, 0: no limit
	began time.Time
	read  int64
}

// wait counts n bytes and waits until they may have been read.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.read += int64(n)
	ahead := time.Duration(float64(p.read)/float64(p.rate)*float64(time.Second)) - time.Since(p.began)
	if ahead < 10*time.Millisecond {
		return ctx.Err()
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
