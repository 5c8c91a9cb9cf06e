package blobstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// maxUnsynced is how many received bytes of a session a crash may lose.
	maxUnsynced = 64 << 20
	// syncEvery is how many bytes are received before a sync is started. It is
	// smaller than maxUnsynced so that, on a disk that keeps up, a sync is done
	// before the stream would have to wait for it.
	syncEvery = maxUnsynced / 2
	// syncAfter bounds the same in time. A session that nobody has called for
	// so long is synced and let go.
	syncAfter = 5 * time.Second
	// maxIdle is how many sessions of a pool stay open between calls.
	maxIdle = 256
)

// session is an upload session in use, or used a moment ago. Between calls it
// stays open until its bytes are synced: the kernel tells of a failed write only
// to those who have the file open. On shared storage it does not: the next call
// may come to another process.
type session struct {
	id     registry.UploadID
	offset atomic.Int64 // bytes received

	// Guarded by pool.mu.
	busy bool          // somebody holds the session
	wait chan struct{} // if not nil: nobody can hold it until this is closed
	idle *time.Timer   // lets it go

	// Owned by who holds the session.
	file       UploadFile
	hash       hashes
	synced     int64     // a sync of so many bytes has succeeded
	dirtySince time.Time // when the first byte behind the last sync's came
	sync       *syncing  // the last sync, nil if its end was noticed
}

// syncing is a sync in the background.
type syncing struct {
	offset int64
	done   chan struct{} // closed when it has ended
	err    error         // valid then
}

// hold returns session id for the use of one caller, who calls release or drop.
// The caller is going to append at offset at; -1 means that it is not.
func (p *pool) hold(ctx context.Context, s *Store, id registry.UploadID, at int64) (*session, error) {
	if _, err := registry.ParseUploadID(string(id)); err != nil {
		return nil, err
	}
	for {
		p.mu.Lock()
		ses := p.sessions[id]
		switch {
		case p.closed:
			p.mu.Unlock()
			return nil, registry.ErrUnavailable
		case ses == nil:
			ses = &session{id: id, wait: make(chan struct{})}
			p.sessions[id] = ses
			p.mu.Unlock()
			return ses, p.load(ctx, s, ses, at)
		case ses.wait != nil:
			wait := ses.wait
			p.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case ses.busy:
			p.mu.Unlock()
			return nil, registry.ErrRangeInvalid.With("another request is using this upload")
		default:
			ses.busy = true
			if ses.idle != nil {
				ses.idle.Stop()
			}
			p.mu.Unlock()
			return ses, nil
		}
	}
}

// load opens a session that is known to storage only.
func (p *pool) load(ctx context.Context, s *Store, ses *session, at int64) error {
	file, saved, err := p.driver.Resume(ctx, ses.id, at)
	if err == nil {
		ses.file = file
		err = p.restore(ctx, s, ses, saved)
		if err != nil {
			file.Close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(ses.wait)
	ses.wait = nil
	if err != nil {
		delete(p.sessions, ses.id)
		return p.failed(err)
	}
	ses.busy = true
	return nil
}

// restore sets a loaded session to the largest offset that can be trusted.
func (p *pool) restore(ctx context.Context, s *Store, ses *session, saved Resumed) error {
	ses.synced = saved.Safe.Offset
	ses.offset.Store(saved.Safe.Offset)
	ses.hash = restore(saved.Safe)
	if saved.Safe.Offset == 0 && ses.hash.sha256 == nil {
		ses.hash = newHashes(saved.Algorithm)
	}
	if saved.Claimed.Offset <= saved.Safe.Offset {
		return nil
	}
	bytes := ses.file.(Rereader)
	ok, err := p.confirm(ctx, s, ses, saved, bytes)
	if err != nil || ok {
		return err
	}
	p.log.Warn("upload goes back to its last sync: the bytes behind it have changed",
		slog.String("upload", string(ses.id)), slog.Int64("offset", saved.Safe.Offset))
	ses.hash = restore(saved.Safe)
	if saved.Safe.Offset == 0 {
		ses.hash = newHashes("")
	}
	return bytes.Truncate(saved.Safe.Offset)
}

// confirm takes over the claimed bytes if they hash to what was claimed. It
// writes them anew: should the kernel have lost them on their way to the disk
// while nobody had the file open, then a sync would not say so otherwise.
func (p *pool) confirm(ctx context.Context, s *Store, ses *session, saved Resumed, from Rereader) (bool, error) {
	if saved.Safe.Offset == 0 {
		ses.hash = hashes{sums: new(summer)}
		for _, h := range saved.Claimed.Hashes {
			switch h.Algorithm {
			case registry.SHA256:
				ses.hash.sha256 = newHash(h.Algorithm)
			case registry.SHA512:
				ses.hash.sha512 = newHash(h.Algorithm)
			}
		}
	}
	buf := s.buffers.small.get()
	defer s.buffers.small.put(buf)
	for at := saved.Safe.Offset; at < saved.Claimed.Offset; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		part := (*buf)[:min(int64(len(*buf)), saved.Claimed.Offset-at)]
		if _, err := from.ReadAt(part, at); err != nil {
			p.log.Warn("bytes of an upload can't be read", slog.String("upload", string(ses.id)), slog.Any("error", err))
			return false, nil
		}
		if _, err := ses.file.Write(ctx, part); err != nil {
			return false, fmt.Errorf("writing upload %s: %w", ses.id, err)
		}
		ses.hash.write(part)
		at += int64(len(part))
	}
	got, err := ses.hash.save(saved.Claimed.Offset)
	if err != nil || !sameHashes(got, saved.Claimed) {
		return false, err
	}
	ses.offset.Store(saved.Claimed.Offset)
	ses.dirtySince = time.Now()
	return true, nil
}

// release ends the use of a session that goes on.
func (p *pool) release(ses *session) {
	if p.shared {
		p.drop(ses)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ses.busy = false
	if p.closed { // the caller of Close did not wait: nothing can be saved now
		ses.file.Close()
		delete(p.sessions, ses.id)
		return
	}
	if len(p.sessions) > maxIdle {
		p.settleLocked(ses)
		return
	}
	if ses.idle == nil {
		ses.idle = time.AfterFunc(syncAfter, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.settleLocked(ses)
		})
		return
	}
	ses.idle.Reset(syncAfter)
}

// drop ends the use of a session, and the session's being in use.
func (p *pool) drop(ses *session) {
	ses.file.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ses.idle != nil {
		ses.idle.Stop()
	}
	delete(p.sessions, ses.id)
	ses.busy = false
}

// settleLocked starts to sync and close a session that nobody holds. Who wants
// it meanwhile waits. The caller holds p.mu.
func (p *pool) settleLocked(ses *session) {
	if ses.busy || ses.wait != nil || p.sessions[ses.id] != ses {
		return
	}
	ses.wait = make(chan struct{})
	p.settling.Go(func() {
		p.settle(ses)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.sessions, ses.id)
		close(ses.wait)
	})
}

func (p *pool) settle(ses *session) {
	defer ses.file.Close()
	if ses.idle != nil {
		ses.idle.Stop()
	}
	err := p.settled(ses)
	if err == nil && ses.offset.Load() != ses.synced && p.writable() == nil {
		err = p.startSync(ses)
		if err == nil {
			err = p.settled(ses)
		}
	}
	if err != nil {
		p.log.Error("upload could not be saved", slog.String("upload", string(ses.id)), slog.Any("error", err))
		p.discardLost(ses, err)
	}
}

// close settles all sessions. Those that somebody holds are settled when they
// are released.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, ses := range p.sessions {
		p.settleLocked(ses)
	}
	p.mu.Unlock()
	p.settling.Wait()
}
