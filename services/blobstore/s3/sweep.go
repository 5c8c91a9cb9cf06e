package s3

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Sweep implements [blobstore.Sweeper]. It removes uploads that nobody touched
// since notAfter, states of uploads that have ended, and multipart uploads that
// no state knows. Several processes may do so at a time.
func (d *Driver) Sweep(ctx context.Context, notAfter time.Time) error {
	if err := d.sweepStates(ctx, notAfter); err != nil {
		return fmt.Errorf("removing the states of uploads: %w", err)
	}
	if err := d.sweepMultiparts(ctx, notAfter); err != nil {
		return fmt.Errorf("aborting multipart uploads: %w", err)
	}
	return nil
}

func (d *Driver) sweepStates(ctx context.Context, notAfter time.Time) error {
	ended := make([]string, 0, 1000)
	flush := func() error {
		err := d.client.removeMany(ctx, ended)
		ended = ended[:0]
		return err
	}
	for o, err := range d.states(ctx) {
		if err != nil {
			return err
		}
		id, ok := d.keys.parseState(o.key)
		switch {
		case !ok || o.modified.After(notAfter):
			continue
		case o.size < minLive:
			// Without its state the id would be believed to be new.
			if d.now().Sub(id.Time()) < believed {
				continue
			}
		default:
			// The list may be minutes old: Discard looks again whether it was touched.
			if err := d.Discard(ctx, id, notAfter); err != nil && !isNone(err) {
				d.log.Warn("an upload that expired could not be removed", slog.String("upload", string(id)), slog.Any("error", err))
			}
			continue // what says so is removed by a later sweep
		}
		if ended = append(ended, o.key); len(ended) == cap(ended) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// sweepMultiparts aborts old multipart uploads. One whose upload goes on is
// left alone.
func (d *Driver) sweepMultiparts(ctx context.Context, notAfter time.Time) error {
	var after *begun
	for more := true; more; {
		var page []begun
		var err error
		page, more, err = d.client.multiparts(ctx, d.keys.home, after)
		if err != nil {
			return err
		}
		for _, m := range page {
			after = &m
			id, ok := d.keys.uploadOf(m.key)
			if !ok || m.at.After(notAfter) {
				continue
			}
			rec, _, err := d.readState(ctx, id)
			if err == nil && rec.Multipart == m.upload {
				continue
			}
			if err == nil || isNone(err) {
				err = d.client.abort(ctx, m.key, m.upload)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the others behind it must go all the same
				d.log.Warn("a multipart upload could not be aborted", slog.String("key", m.key), slog.Any("error", err))
			}
		}
	}
	return nil
}
