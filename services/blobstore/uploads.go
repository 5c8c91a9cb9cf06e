package blobstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/tracing"
)

// Start implements [registry.Uploads].
func (s *Store) Start(ctx context.Context, name registry.Pool, alg registry.Algorithm) (registry.Upload, error) {
	p, err := s.pool(ctx, name)
	if err != nil {
		return registry.Upload{}, err
	}
	if err := p.writable(); err != nil {
		return registry.Upload{}, err
	}
	if err := p.answers(); err != nil {
		return registry.Upload{}, err
	}
	if err := p.room(); err != nil {
		return registry.Upload{}, err
	}
	call := p.calls.Begin()
	id, file, err := p.driver.Create(ctx, s.now(), alg)
	p.calls.End(call)
	if err != nil {
		return registry.Upload{}, p.failed(err)
	}
	ses := &session{id: id, file: file, hash: newHashes(alg), busy: true}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		file.Close()
		return registry.Upload{}, registry.ErrUnavailable
	}
	p.sessions[id] = ses
	p.mu.Unlock()
	p.release(ses)
	return registry.Upload{ID: id, Pool: name}, nil
}

// Append implements [registry.Uploads].
func (s *Store) Append(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
	p, ses, err := s.holdAt(ctx, u)
	if err != nil {
		return u, err
	}
	err = s.extend(ctx, p, ses, r)
	u.Offset, err = p.done(ses, err)
	return u, err
}

// holdAt holds the session of u for writing at u.Offset.
func (s *Store) holdAt(ctx context.Context, u registry.Upload) (*pool, *session, error) {
	p, err := s.pool(ctx, u.Pool)
	if err != nil {
		return nil, nil, err
	}
	if err := p.writable(); err != nil {
		return nil, nil, err
	}
	ses, err := p.hold(ctx, s, u.ID, u.Offset)
	if err != nil {
		return p, nil, err
	}
	if at := ses.offset.Load(); at != u.Offset {
		p.release(ses)
		return nil, nil, registry.ErrRangeInvalid.With("the upload's offset is %d", at)
	}
	return p, ses, nil
}

// extend appends the bytes of r and saves the new state.
func (s *Store) extend(ctx context.Context, p *pool, ses *session, r io.Reader) error {
	before := ses.offset.Load()
	err := s.receive(ctx, p, ses, r)
	if ses.offset.Load() == before || p.shared {
		return err
	}
	if _, lost := errors.AsType[*SyncError](err); lost {
		return err
	}
	if e := p.syncIfDue(ses); e != nil {
		return e
	}
	state, e := ses.hash.save(ses.offset.Load())
	if e == nil {
		e = ses.file.Save(state)
	}
	if err == nil {
		err = e
	}
	return err
}

// done ends the use of a session that had an error, or none, and returns its
// offset and what the caller is told.
func (p *pool) done(ses *session, err error) (int64, error) {
	offset := ses.offset.Load()
	if _, lost := errors.AsType[*SyncError](err); !lost && p.shared {
		e := p.flush(ses)
		// A call for another offset than the true one was wrong from the start.
		if err == nil || errors.Is(e, registry.ErrRangeInvalid) || errors.Is(e, registry.ErrUploadUnknown) {
			err = e
		}
		offset = ses.synced
	}
	told := p.failed(err)
	if p.discardLost(ses, err) {
		p.drop(ses)
	} else {
		p.release(ses)
	}
	return offset, told
}

// Status implements [registry.Uploads]. It may be called while another call
// uses the session.
func (s *Store) Status(ctx context.Context, u registry.Upload) (registry.Upload, error) {
	p, err := s.pool(ctx, u.Pool)
	if err != nil {
		return registry.Upload{}, err
	}
	if at, ok := p.offset(u.ID); ok {
		u.Offset = at
		return u, nil
	}
	ses, err := p.hold(ctx, s, u.ID, -1)
	if err != nil {
		if at, ok := p.offset(u.ID); ok && errors.Is(err, registry.ErrRangeInvalid) {
			u.Offset = at
			return u, nil
		}
		return registry.Upload{}, err
	}
	defer p.release(ses)
	u.Offset = ses.offset.Load()
	return u, nil
}

// offset returns the offset of a session in use.
func (p *pool) offset(id registry.UploadID) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ses := p.sessions[id]
	if ses == nil || ses.wait != nil {
		return 0, false
	}
	return ses.offset.Load(), true
}

// Commit implements [registry.Uploads].
func (s *Store) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	want, err := registry.ParseDigest(want.String())
	if err != nil {
		return registry.Stored{}, err
	}
	p, ses, err := s.holdAt(ctx, u)
	if errors.Is(err, registry.ErrUploadUnknown) {
		return p.published(ctx, u.ID, want)
	}
	if err != nil {
		return registry.Stored{}, err
	}
	stored, err := s.commit(ctx, p, ses, last, want)
	if err != nil {
		_, err = p.done(ses, err)
		if errors.Is(err, registry.ErrUploadUnknown) {
			return p.published(ctx, u.ID, want) // shared storage may find out late
		}
		return registry.Stored{}, err
	}
	p.drop(ses)
	return stored, nil
}

// published returns what an earlier Commit of the same upload made.
func (p *pool) published(ctx context.Context, id registry.UploadID, d registry.Digest) (registry.Stored, error) {
	if _, err := registry.ParseUploadID(string(id)); err != nil {
		return registry.Stored{}, err
	}
	stored, err := p.driver.Published(ctx, id, d)
	if err != nil {
		return registry.Stored{}, p.failed(err)
	}
	stored.Pool = p.name
	return stored, nil
}

// commit is Commit for who holds the session.
func (s *Store) commit(ctx context.Context, p *pool, ses *session, last io.Reader, want registry.Digest) (registry.Stored, error) {
	before := ses.offset.Load()
	if before == 0 && ses.hash.of(want.Algorithm()) == nil {
		ses.hash = newHashes(want.Algorithm())
	}
	// Only bytes that are being hashed for it may lie under a digest: others would
	// be found there before they are known to be right.
	if ses.hash.of(want.Algorithm()) != nil {
		ses.file.Expect(want)
	}
	taken := false
	if given, ok := last.(*registry.GivenFile); ok {
		var err error
		if taken, err = s.take(ctx, p, ses, given); err != nil {
			return registry.Stored{}, s.keep(ses, before, err)
		}
	}
	if last != nil && !taken {
		if err := s.receive(ctx, p, ses, last); err != nil {
			return registry.Stored{}, s.keep(ses, before, err)
		}
	}
	// A sync that failed has taken the error with it that the last one would
	// have returned.
	if err := p.settled(ses); err != nil {
		return registry.Stored{}, err
	}
	size := ses.offset.Load()
	got, err := s.digest(ctx, ses, want.Algorithm())
	if err == nil && got != want {
		err = registry.ErrDigestInvalid.Because(fmt.Errorf("content hashes to %s", got))
	}
	if err != nil {
		return registry.Stored{}, s.keep(ses, before, err)
	}
	if err := p.writable(); err != nil {
		return registry.Stored{}, s.keep(ses, before, err)
	}
	began := time.Now()
	below, span := tracing.Start(ctx, "publish blob", tracing.Inside)
	call := p.calls.Begin()
	locator, err := ses.file.Publish(below, want, ses.hash.list(size))
	p.calls.End(call)
	span.End(err)
	p.meters.publish.Since(began)
	if err != nil {
		return registry.Stored{}, s.keep(ses, before, err)
	}
	p.meters.committed.Inc()
	p.meters.written.Add(size)
	return registry.Stored{Digest: want, Size: size, Pool: p.name, Locator: locator}, nil
}

// keep saves the state of a session that could not be committed because of err,
// which it returns.
func (s *Store) keep(ses *session, before int64, err error) error {
	if _, lost := errors.AsType[*SyncError](err); lost || ses.offset.Load() == before {
		return err
	}
	if state, e := ses.hash.save(ses.offset.Load()); e == nil {
		// Failing to save costs the bytes only if the process ends now, and the
		// caller is told of an error anyway.
		_ = ses.file.Save(state)
	}
	return err
}

// digest returns the digest of all bytes of the session.
func (s *Store) digest(ctx context.Context, ses *session, alg registry.Algorithm) (registry.Digest, error) {
	if h := ses.hash.of(alg); h != nil {
		return sumOf(alg, h), nil
	}
	h := newHash(alg)
	r, err := ses.file.Reader(ctx)
	if err != nil {
		return "", fmt.Errorf("reading upload %s: %w", ses.id, err)
	}
	defer r.Close()
	buf := s.buffers.small.get()
	defer s.buffers.small.put(buf)
	for read := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := r.Read(*buf)
		h.Write((*buf)[:n])
		read += int64(n)
		if err == io.EOF && read == ses.offset.Load() {
			return sumOf(alg, h), nil
		}
		if err != nil {
			return "", fmt.Errorf("reading upload %s: %w", ses.id, registry.CutOff(err))
		}
	}
}

// sumOf returns what h, which is of algorithm alg, has seen as a digest.
func sumOf(alg registry.Algorithm, h hash.Hash) registry.Digest {
	var room [64]byte
	return registry.Digest(string(alg) + ":" + hex.EncodeToString(h.Sum(room[:0])))
}

// Abort implements [registry.Uploads].
func (s *Store) Abort(ctx context.Context, u registry.Upload) error {
	p, err := s.pool(ctx, u.Pool)
	if err != nil {
		return err
	}
	ses, err := p.hold(ctx, s, u.ID, -1)
	if err != nil {
		return err
	}
	if err := p.settled(ses); err != nil {
		p.log.Warn("upload that is aborted could not be synced", slog.String("upload", string(u.ID)), slog.Any("error", err))
	}
	err = p.driver.Discard(ctx, u.ID, time.Time{})
	p.drop(ses)
	return p.failed(err)
}
