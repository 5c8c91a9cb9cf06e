package blobstore

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
)

// Taker is an [UploadFile] that can take a file in place of the bytes that it has
// none of yet.
type Taker interface {
	// Take makes the file of that name the upload's own: its size bytes were written,
	// and its name is gone. false: that can't be done, and nothing has changed.
	Take(name string, size int64) bool
}

// take makes a file that is given away the bytes of a session that has none, and
// hashes them. false: they are to be copied.
func (s *Store) take(ctx context.Context, p *pool, ses *session, given *registry.GivenFile) (bool, error) {
	taker, ok := ses.file.(Taker)
	if !ok || given.File == nil || ses.offset.Load() != 0 {
		return false, nil
	}
	if err := p.room(); err != nil {
		return false, err
	}
	if !taker.Take(given.File.Name(), given.Len) {
		return false, nil
	}
	err := s.hashTaken(ctx, ses, given.Len)
	if err != nil {
		// All bytes are in the session all the same: what is written next goes behind
		// them. They are hashed when that is asked for again.
		ses.offset.Store(given.Len)
		ses.hash = hashes{}
	}
	return true, err
}

// hashTaken hashes the size bytes that a session has taken.
func (s *Store) hashTaken(ctx context.Context, ses *session, size int64) error {
	r, err := ses.file.Reader(ctx)
	if err != nil {
		return fmt.Errorf("reading upload %s: %w", ses.id, err)
	}
	defer r.Close()
	buf := s.buffers.small.get()
	defer s.buffers.small.put(buf)
	for ses.offset.Load() < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadAtLeast(r, (*buf)[:min(int64(len(*buf)), size-ses.offset.Load())], 1)
		ses.hash.write((*buf)[:n])
		ses.offset.Add(int64(n))
		if err != nil {
			return fmt.Errorf("reading upload %s: %w", ses.id, registry.CutOff(err))
		}
	}
	return nil
}
