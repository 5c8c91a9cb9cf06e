package blobstore

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// startSync starts to sync what the session has received. The caller holds the
// session, and no sync is in progress.
func (p *pool) startSync(ses *session) error {
	state, err := ses.hash.save(ses.offset.Load())
	if err != nil {
		return err
	}
	sync := &syncing{offset: state.Offset, done: make(chan struct{})}
	ses.sync = sync
	ses.dirtySince = time.Time{}
	go func() {
		defer close(sync.done)
		began := time.Now()
		call := p.calls.Begin()
		sync.err = ses.file.Sync(state)
		p.calls.End(call)
		p.meters.sync.Since(began)
		if sync.err != nil {
			p.failed(sync.err) // latches the pool at once; the error is returned by settled
		}
	}()
	return nil
}

// settled waits for the sync in progress, if there is one, and returns its
// error.
func (p *pool) settled(ses *session) error {
	if ses.sync == nil {
		return nil
	}
	<-ses.sync.done
	err := ses.sync.err
	if err == nil {
		ses.synced = ses.sync.offset
	}
	ses.sync = nil
	return err
}

// syncIfDue starts a sync if one is due. The session's hashes must be up to
// date.
func (p *pool) syncIfDue(ses *session) error {
	if !p.due(ses) {
		return nil
	}
	if err := p.settled(ses); err != nil || !p.due(ses) {
		return err
	}
	return p.startSync(ses)
}

// flush makes all that the session has received survive. The caller holds the
// session. What could not be saved is no part of the upload any more.
func (p *pool) flush(ses *session) error {
	if err := p.settled(ses); err != nil {
		return err
	}
	if err := p.writable(); err != nil {
		return err
	}
	if err := p.startSync(ses); err != nil {
		return err
	}
	return p.settled(ses)
}

// due reports whether enough bytes or time have passed to start a sync. With
// one in progress that is only so when a crash could lose more than maxUnsynced
// otherwise: then the stream waits for the disk.
func (p *pool) due(ses *session) bool {
	at, from := ses.offset.Load(), ses.synced
	every := int64(syncEvery)
	if p.part > 0 {
		if at%p.part != 0 {
			return false
		}
		every = maxUnsynced - p.part // as seldom as can be: a record costs a request
	}
	if ses.sync != nil {
		select {
		case <-ses.sync.done:
		default:
			return at-ses.synced >= maxUnsynced
		}
		from = ses.sync.offset
	}
	behind := at - from
	return behind >= every || behind > 0 && !ses.dirtySince.IsZero() && time.Since(ses.dirtySince) >= syncAfter
}

// discardLost removes a session whose bytes can't be believed any more because
// a sync failed. It reports whether that was so.
func (p *pool) discardLost(ses *session, err error) bool {
	if _, lost := errors.AsType[*SyncError](err); !lost {
		return false
	}
	if err := p.driver.Discard(context.Background(), ses.id, time.Time{}); err != nil {
		p.log.Error("upload that lost bytes could not be removed: it must not be continued",
			slog.String("upload", string(ses.id)), slog.Any("error", err))
	}
	return true
}
