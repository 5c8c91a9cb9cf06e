package blobstore

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// maxUntouched is how long a session lives that nobody touches.
	maxUntouched = 24 * time.Hour
	firstSweep   = time.Minute
	sweepEvery   = time.Hour
	// sweepPause is between two removals, so that a sweep of very many does not
	// keep the disk from serving.
	sweepPause = 10 * time.Millisecond
)

// sweep removes expired sessions until ctx ends.
func (s *Store) sweep(ctx context.Context) {
	timer := time.NewTimer(firstSweep)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, p := range s.sorted() {
			if err := p.expire(ctx, s.now().Add(-maxUntouched)); err != nil && ctx.Err() == nil {
				p.log.Error("expired uploads could not be removed", slog.Any("error", err))
			}
		}
		timer.Reset(sweepEvery)
	}
}

// expire removes the sessions that were last touched before notAfter. One that can't be
// removed keeps no other; the first of these is the error.
func (p *pool) expire(ctx context.Context, notAfter time.Time) error {
	if d, ok := p.driver.(Sweeper); ok {
		return d.Sweep(ctx, notAfter)
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	var failed error
	for u, err := range p.driver.Uploads(ctx) {
		if err != nil {
			return fmt.Errorf("listing uploads: %w", err)
		}
		if u.Touched.After(notAfter) {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
			pause.Reset(sweepPause)
		}
		if err := p.expireOne(ctx, u.ID, notAfter); err != nil && failed == nil {
			failed = fmt.Errorf("removing upload %s: %w", u.ID, err)
		}
	}
	return failed
}

// expireOne removes session id unless it is in use or was touched since.
func (p *pool) expireOne(ctx context.Context, id registry.UploadID, notAfter time.Time) error {
	ses := &session{id: id, wait: make(chan struct{})}
	p.mu.Lock()
	if p.sessions[id] != nil {
		p.mu.Unlock()
		return nil
	}
	p.sessions[id] = ses
	p.mu.Unlock()

	err := p.driver.Discard(ctx, id, notAfter)

	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, id)
	close(ses.wait)
	return err
}

// CheckUploads checks invariant I9 for all pools: what is saved of a session
// counts no byte that is not there.
func (s *Store) CheckUploads(ctx context.Context) iter.Seq2[registry.Finding, error] {
	return func(yield func(registry.Finding, error) bool) {
		for _, p := range s.sorted() {
			for u, err := range p.driver.Uploads(ctx) {
				if err != nil {
					yield(registry.Finding{}, fmt.Errorf("listing uploads of pool %q: %w", p.name, err))
					return
				}
				problem, err := p.driver.CheckUpload(ctx, u.ID)
				if err != nil {
					yield(registry.Finding{}, fmt.Errorf("checking upload %s of pool %q: %w", u.ID, p.name, err))
					return
				}
				if problem == "" {
					continue
				}
				text := fmt.Sprintf("upload %s of pool %q: %s", u.ID, p.name, problem)
				if !yield(registry.Finding{Invariant: "I9", Problem: text}, nil) {
					return
				}
			}
		}
	}
}
