package syncer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/registry"
)

// What several syncers do that share a database: claims are read there each time,
// pauses and the ends of copies each few seconds, and who may fetch a blob or run a
// rule's copies has a row with an end. The bytes of a fetch are one process's: the
// others ask it for them, see relay, or wait until the blob is in the catalog.

// HolderHere names this process among those that share the database: the same after a
// restart, so that it goes on with what it was fetching into staging.
func HolderHere(staging string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if abs, err := filepath.Abs(staging); err == nil {
		staging = abs
	}
	sum := sha256.Sum256([]byte(staging))
	return host + "." + hex.EncodeToString(sum[:4])
}

// addressHere returns where other syncers reach this process: as the file says, or else
// where it listens, with an address of this machine if that is all of them. "" if it
// does not listen.
func addressHere(listen, advertise string) (string, error) {
	if advertise != "" || listen == "" {
		return advertise, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("services.syncer.listen: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return listen, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("looking for an address of this machine: %w", err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return "", nil
}

// claimOf returns whether repo was pushed to, and whether that is known at all.
func (s *Service) claimOf(ctx context.Context, repo registry.Name) (claimed, known bool, err error) {
	if !s.shared {
		s.mu.Lock()
		defer s.mu.Unlock()
		claimed, known = s.claimed[repo]
		return claimed, known, nil
	}
	claimed, known, err = s.store.claimOf(ctx, repo)
	if err != nil {
		return false, false, fmt.Errorf("reading whether a repository was pushed to: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !known {
		delete(s.claimed, repo)
	} else {
		s.claimed[repo] = claimed
	}
	return claimed, known, nil
}

// refreshEvery is how often what others have done to rules is read.
const refreshEvery = 5 * time.Second

// refresher reads what others that share the database have done to the rules.
func (s *Service) refresher() {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.refresh(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("what other syncers have done could not be read", "error", err)
		}
	}
}

func (s *Service) refresh(ctx context.Context) error {
	rows, err := s.store.rules(ctx)
	if err != nil {
		return err
	}
	for _, r := range s.rules() {
		row, ok := rows[r.Name]
		if !ok {
			continue
		}
		r.state.mu.Lock()
		if !r.state.running {
			r.state.row = row
		}
		r.state.row.paused = row.paused
		r.state.mu.Unlock()
		r.state.paused.Store(row.paused)
	}
	return nil
}

// renewEvery is how often a right is renewed, and how long that may take.
const renewEvery = leaseTime / 4

// runPrefix begins what rights to do something for a rule are called among those to
// fetch a blob.
const runPrefix = "run:"

// The rights to run a rule's copies, and to pass on what is pushed.
func copies(r *Rule) registry.Digest   { return registry.Digest(runPrefix + "copies:" + r.Name) }
func forwards(r *Rule) registry.Digest { return registry.Digest(runPrefix + "forwards:" + r.Name) }

// errRightLost says that a right could not be renewed in time, or is another's.
var errRightLost = errors.New("another syncer may do this now")

// mayRun takes such a right and keeps it until done is called. held ends when it can't
// be kept: another syncer does the same from then on. false: another has it already.
func (s *Service) mayRun(ctx context.Context, r *Rule, what registry.Digest) (held context.Context, done func(), ok bool, err error) {
	if !s.shared {
		return ctx, func() {}, true, nil
	}
	var until time.Time
	take := func(ctx context.Context) (string, error) {
		now := s.now()
		ends := now.Add(leaseTime)
		other, err := s.store.lease(ctx, fillRow{what, "", r.Name, 0, now}, s.holder, now, ends)
		if err == nil && other == "" {
			until = ends
		}
		return other, err
	}
	other, err := take(ctx)
	if err != nil || other != "" {
		return nil, nil, false, err
	}
	held, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(s.renew)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			within, cancel := context.WithTimeout(held, s.renew)
			other, err := take(within)
			cancel()
			if held.Err() != nil {
				return
			}
			if err != nil {
				s.log.Warn("a right could not be renewed", "right", what, "rule", r.Name, "error", err)
			}
			// Another look comes only after the end.
			if other != "" || err != nil && until.Sub(s.now()) <= s.renew {
				stop(errRightLost)
				return
			}
		}
	}()
	return held, func() {
		stop(nil)
		<-ended
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := s.store.endFill(clean, what, s.holder); err != nil {
			s.log.Warn("a right could not be given back", "right", what, "rule", r.Name, "error", err)
		}
	}, true, nil
}

// othersEvery is how often it is looked whether another syncer has fetched a blob.
const othersEvery = 200 * time.Millisecond

// errFetched says that another syncer has fetched the blob.
var errFetched = errors.New("another syncer has fetched it")

// rightOf takes the right to fetch the blob, or waits until another syncer that has it
// is done: errFetched if the blob is here then.
func (f *fill) rightOf(ctx context.Context) error {
	tick := time.NewTicker(othersEvery)
	defer tick.Stop()
	from := &relay{f: f}
	defer func() { _ = from.abandon() }() // what has come of it stays
	for waited := false; ; waited = true {
		other, err := f.lease(ctx)
		if err != nil {
			return err
		}
		if waited && f.s.fetched(ctx, f) {
			if err := from.abandon(); errors.Is(err, errWrong) {
				return err
			}
			if err := f.rest(ctx); err != nil {
				return err
			}
			return errFetched
		}
		if other == "" {
			if waited {
				f.update(func() { f.trouble = "" })
			}
			return nil
		}
		if !waited {
			f.update(func() { f.trouble = "waits for syncer " + other + ", which is fetching it" })
		}
		if err := from.look(ctx, other); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return registry.ErrUnavailable.With("another syncer did not fetch the blob in time").Because(context.Cause(ctx))
		}
	}
}

// fetched reports whether the blob has come into the repository that asked for it, and
// links it in the others, which have heard from their upstream that it is theirs, too.
func (s *Service) fetched(ctx context.Context, f *fill) bool {
	b, err := s.catalog.Blob(ctx, installation, f.repo(), f.digest)
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	if err != nil || b.Locator == "" || size >= 0 && size != b.Size {
		return false
	}
	err = f.settle(func(repo registry.Name) (registry.Stored, error) {
		if repo == f.repo() {
			return b.Stored, nil
		}
		return s.catalog.LinkCached(ctx, installation, repo, b.Stored)
	})
	return err == nil
}

// forgotten is after how long without a word a syncer's address is forgotten.
const forgotten = time.Hour

// showAddress tells others that share the database where this process is.
func (s *Service) showAddress(ctx context.Context) error {
	if !s.shared || s.address == "" {
		return nil
	}
	return s.store.showAddress(ctx, s.holder, s.address, s.now(), s.now().Add(-forgotten))
}
