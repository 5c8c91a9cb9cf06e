package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Peer is another syncer that shares the database.
type Peer interface {
	registry.Puller
	io.Closer
}

// relay brings the bytes of a blob from the syncer that is fetching it, for clients that
// wait here. They lie in the staged file as those of an upstream would: if the other
// syncer ends this one goes on from there.
type relay struct {
	f     *fill
	stop  context.CancelFunc
	done  chan struct{} // closed when an attempt has ended; nil: there is none
	err   error         // of the attempt, once done is closed
	whole bool          // all has come
	pause time.Duration
	next  time.Time // of another attempt
}

// look begins an attempt if there is none and clients wait. It returns an error if what
// came was not the blob.
func (r *relay) look(ctx context.Context, holder string) error {
	f := r.f
	if r.done != nil {
		select {
		case <-r.done:
		default:
			return nil
		}
		if err := r.end(); err != nil {
			if errors.Is(err, errWrong) {
				return err
			}
			r.again()
			f.update(func() { f.trouble = "waits for syncer " + holder + ": " + err.Error() })
			return nil
		}
		r.whole = true
	}
	if r.whole || f.s.dial == nil || time.Now().Before(r.next) || f.priority() != forClient {
		return nil
	}
	address, err := f.s.store.addressOf(ctx, holder)
	if err != nil || address == "" || address == f.s.address {
		r.again()
		return nil // it is fetched all the same
	}
	var within context.Context
	within, r.stop = context.WithCancel(ctx)
	done := make(chan struct{})
	r.done = done
	f.s.work.Go(func() {
		defer close(done)
		r.err = f.takeFrom(within, address)
	})
	return nil
}

func (r *relay) again() {
	r.pause = min(max(2*r.pause, othersEvery), maxPause)
	r.next = time.Now().Add(r.pause)
}

// end waits for the attempt that is under way, and returns how it ended.
func (r *relay) end() error {
	if r.done == nil {
		return nil
	}
	<-r.done
	r.stop()
	r.done = nil
	return r.err
}

// abandon ends the attempt that is under way.
func (r *relay) abandon() error {
	if r.done != nil {
		r.stop()
	}
	return r.end()
}

// takeFrom brings what is left of the blob from the syncer at address.
func (f *fill) takeFrom(ctx context.Context, address string) error {
	if err := f.recover(); err != nil {
		return err
	}
	peer, err := f.s.dial(address)
	if err != nil {
		return fmt.Errorf("dialling another syncer: %w", err)
	}
	defer peer.Close()
	// It asks its upstream whether it has the blob for us, too, see enter.
	c, err := peer.Open(ctx, installation, f.repo(), f.digest, registry.Range{Offset: f.have, Length: -1})
	if err != nil {
		return fmt.Errorf("asking another syncer: %w", err)
	}
	defer c.Close()
	size, known := f.have+c.Size(), int64(0)
	f.update(func() {
		if known = f.size; known < 0 || known == size {
			f.size, f.hidden = size, false
		}
	})
	if known >= 0 && known != size {
		return registry.ErrUnavailable.With("another syncer says that %s has %d bytes, not %d", f.digest, size, known)
	}
	return f.pour(c, size, f.s.meters.relayed.Add)
}

// pour puts all of c behind what has come, until size, and compares it with the digest.
func (f *fill) pour(c io.Reader, size int64, count func(int64)) error {
	if err := f.pourAll(c, size, count); err != nil {
		return err
	}
	if f.sum() != f.digest {
		f.s.meters.wrong.Inc()
		return registry.ErrUnavailable.With("another syncer sends other content than %s", f.digest).Because(errWrong)
	}
	f.update(func() { f.verified = true })
	return nil
}

func (f *fill) pourAll(c io.Reader, size int64, count func(int64)) error {
	sums := &summer{hash: f.hash}
	defer sums.finish()
	for f.have < size {
		part := sums.room()
		n, err := c.Read(part[:min(int64(len(part)), size-f.have)])
		if n > 0 {
			if _, werr := f.file.WriteAt(part[:n], f.have); werr != nil {
				return registry.ErrStorageFull.With("the staging directory takes no more").Because(errors.Join(errNoRoom, werr))
			}
			sums.filled(n)
			f.grow(int64(n), f.s.now())
			count(int64(n))
		}
		if err != nil && f.have < size {
			return registry.CutOff(err)
		}
	}
	return nil
}

// rest brings what has not come of a blob that another syncer has stored, for
// readers who have begun: what they have is compared with the rest.
func (f *fill) rest(ctx context.Context) error {
	f.mu.Lock()
	if f.hidden {
		f.have = 0 // nobody has seen any
	}
	begun, stored, have := f.have > 0 && !f.verified, f.stored, f.have
	f.mu.Unlock()
	if !begun {
		return nil
	}
	if have == stored.Size {
		return f.pour(nil, have, nil) // it only has to be compared
	}
	c, err := f.s.blobs.Open(ctx, stored, registry.Range{Offset: have, Length: stored.Size - have})
	if err != nil {
		return fmt.Errorf("reading a blob that another syncer has stored: %w", err)
	}
	defer c.Close()
	return f.pour(c, stored.Size, func(int64) {})
}
