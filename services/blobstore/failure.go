package blobstore

import (
	"errors"
	"log/slog"
	"syscall"

	"github.com/berth-registry/berth/registry"
)

// errReadOnly is what writers of a latched pool get.
var errReadOnly = registry.ErrUnavailable.With("storage is read-only after a failed write: an operator must check the disk and restart")

// failed turns an error of the driver into one that says what the caller can
// do, and latches the pool if it was a failed sync.
func (p *pool) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*registry.Error](err); ok {
		return err
	}
	if isFull(err) {
		return registry.ErrStorageFull.Because(err)
	}
	// A sync that lacks a descriptor has not begun: nothing is lost but what was to be
	// made durable, and that is not acknowledged. fsync(2) itself never says so.
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return registry.ErrUnavailable.Because(err)
		}
	}
	if lost, ok := errors.AsType[*SyncError](err); ok {
		p.meters.lost.Inc()
		p.latch(lost)
		return errReadOnly.Because(err)
	}
	if errors.Is(err, syscall.EROFS) {
		return registry.ErrUnavailable.Because(err)
	}
	return err
}

// isFull reports whether err passes when there is space again. Storage that
// finds out about a full disk only when it syncs has lost that upload's bytes,
// but no others, so that the pool need not be latched.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// latch makes the pool refuse writes until the process ends.
func (p *pool) latch(why error) {
	reason := why.Error()
	if p.readOnly.CompareAndSwap(nil, &reason) {
		p.log.Error("pool is read-only until restart: bytes may be lost", slog.Any("error", why))
	}
}

// writable returns an error if the pool is latched.
func (p *pool) writable() error {
	if p.readOnly.Load() != nil {
		return errReadOnly
	}
	return nil
}
