package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// sum returns the digest of what has come.
func (f *fill) sum() registry.Digest {
	return registry.Digest(string(f.digest.Algorithm()) + ":" + fmt.Sprintf("%x", f.hash.Sum(nil)))
}

// lease takes or renews the right to fetch the blob. It returns who has it otherwise.
func (f *fill) lease(ctx context.Context) (other string, err error) {
	now := f.s.now()
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	other, err = f.s.store.lease(ctx, fillRow{f.digest, f.repo(), f.targets[0].rule.Name, size, f.since}, f.s.holder, now, now.Add(leaseTime))
	if err != nil {
		return "", fmt.Errorf("taking the right to fetch a blob: %w", err)
	}
	return other, nil
}

// recover reads what an earlier attempt has brought.
func (f *fill) recover() error {
	if f.recovered {
		return nil
	}
	n, err := io.Copy(f.hash, f.file)
	if err != nil {
		return fmt.Errorf("reading a staged file: %w", err)
	}
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	if size >= 0 && n > size {
		n = 0
		f.hash.Reset()
		if err := f.file.Truncate(0); err != nil {
			return fmt.Errorf("emptying a staged file: %w", err)
		}
	}
	f.recovered = true
	f.s.meters.resumed.Add(n)
	f.update(func() {
		f.have, f.hidden = n, !f.resumed && n > 0
		// All of it has come, only nobody noted it. Others have to hear from their
		// upstream first that it has the blob for them.
		if f.resumed && f.size < 0 && n > 0 && f.sum() == f.digest {
			f.size = n
		}
	})
	return nil
}

func (f *fill) complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size >= 0 && f.have >= f.size && !f.hidden
}

// errMounted says that the blob was in the store already.
var errMounted = errors.New("the blob is in the store")

var errStalled = errors.New("no byte comes")

// receive takes bytes from one host, from where the staged file ends, until the end
// or an error.
func (f *fill) receive(ctx context.Context, t target, h *upstream.Host) error {
	if err := t.rule.spent(f.s.now(), f.priority()); err != nil {
		return err
	}
	line := &t.rule.state.line
	leave := line.enter(f)
	defer leave()
	if err := line.turn(ctx, f); err != nil {
		return err
	}
	if f.preempted {
		f.last, f.preempted = f.s.now(), false
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(f.s.stall, func() { cancel(errStalled) })
	defer stall.Stop()
	err := f.receiveWithin(within, stall, t, h)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(within), errStalled) {
		h.Failed()
		// Without what the end of within has caused: nobody has cancelled anything.
		return registry.ErrUnavailable.With("the upstream registry %s sends nothing", h.Name()).Because(errStalled)
	}
	return err
}

func (f *fill) receiveWithin(ctx context.Context, stall *time.Timer, t target, h *upstream.Host) error {
	// All of it came before, only it could not be stored. The upstream has to say that
	// it has it for us, and nothing else.
	if (f.size < 0 || f.size == f.have) && f.have > 0 && f.sum() == f.digest {
		_, err := h.HeadBlob(ctx, t.remote, f.digest)
		if err == nil {
			f.update(func() { f.size, f.hidden = f.have, false })
		}
		return err
	}
	body, size, err := h.Blob(ctx, t.remote, f.digest, f.have)
	if err != nil {
		return err
	}
	defer body.Close()
	if f.size >= 0 && size >= 0 && size != f.size {
		return registry.ErrUnavailable.With("the upstream registry %s says that %s has %d bytes, not %d", h.Name(), f.digest, size, f.size).Because(errWrong)
	}
	if err := t.rule.tooLarge(max(size, f.have)); err != nil {
		return err
	}
	// The upstream has it for us, so a copy that is here may serve.
	if f.have == 0 && f.mount(ctx) {
		return errMounted
	}
	if err := t.rule.wouldSpend(f.s.now(), f.priority(), max(0, size-f.have)); err != nil {
		return err
	}
	f.update(func() {
		f.hidden = false
		if size >= 0 {
			f.size = size
		}
	})
	sums := &summer{hash: f.hash}
	defer sums.finish()
	for !f.complete() {
		stall.Stop()
		if err := t.rule.state.line.turn(ctx, f); err != nil {
			return err
		}
		if f.preempted {
			f.last, f.preempted = f.s.now(), false
		}
		stall.Reset(f.s.stall)
		part := sums.room()
		if f.size >= 0 {
			part = part[:min(int64(len(part)), f.size-f.have)]
		}
		n, err := body.Read(part)
		if n > 0 {
			if _, werr := f.file.WriteAt(part[:n], f.have); werr != nil {
				return registry.ErrStorageFull.With("the staging directory takes no more").Because(errors.Join(errNoRoom, werr))
			}
			sums.filled(n)
			now := f.s.now()
			f.grow(int64(n), now)
			t.rule.state.bytes.Add(int64(n))
			f.s.meters.upstreamBytes.Add(int64(n))
			stall.Stop() // this is us
			if lerr := t.rule.tooLarge(f.have); lerr != nil {
				return errors.Join(lerr, errNoRoom)
			}
			if t.rule.state.line.took(n, now) >= saveEvery {
				if serr := f.s.saveLine(ctx, t.rule); serr != nil && ctx.Err() == nil {
					f.s.log.Warn("bytes could not be counted", "rule", t.rule.Name, "error", serr)
				}
			}
			if perr := t.rule.pace(ctx, n, now); perr != nil {
				return perr
			}
		}
		if err == io.EOF {
			if f.size < 0 {
				f.update(func() { f.size = f.have })
			}
			if f.complete() {
				return nil
			}
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return registry.ErrUnavailable.With("the upstream registry %s broke off", h.Name()).Because(err)
		}
	}
	return nil
}
