package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// Stat implements [registry.Puller].
func (s *Service) Stat(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest) (int64, error) {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return 0, err
	}
	if b, err := s.catalog.Blob(ctx, installation, repo, d); err == nil {
		return b.Size, nil
	}
	s.mu.Lock()
	f, ok := s.fills[d]
	ok = ok && f.joinable(targets)
	if ok {
		f.mu.Lock()
		f.refs++
		f.mu.Unlock()
	}
	s.mu.Unlock()
	if ok {
		f.attend(1)
		defer f.depart()
		return f.sized(ctx)
	}
	size, err := s.headBlob(ctx, targets, d)
	if err != nil || size >= 0 {
		return size, err
	}
	// A host that does not say: only the blob itself tells.
	if f, err = s.follow(ctx, d, repo, targets, -1); err != nil {
		return 0, err
	}
	f.attend(1)
	defer f.depart()
	return f.sized(ctx)
}

// Open implements [registry.Puller].
func (s *Service) Open(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return nil, err
	}
	f, err := s.join(ctx, repo, targets, d)
	if err != nil {
		return nil, err
	}
	// It may have become local since the caller has looked; a fill that began before
	// this has not linked it yet, or is known to s.
	if f == nil {
		b, err := s.catalog.Blob(ctx, installation, repo, d)
		if err == nil {
			if b.Inline != nil {
				return nil, registry.ErrBlobUnknown
			}
			r.Verify = b.Unverified
			return s.blobs.Open(ctx, b.Stored, r)
		}
		if s.lacks(repo, d) {
			return nil, registry.ErrBlobUnknown
		}
		if f, err = s.follow(ctx, d, repo, targets, -1); err != nil {
			return nil, err
		}
	}
	f.attend(1)
	size, err := f.sized(ctx)
	for tries := 0; err != nil && ctx.Err() == nil && tries < 3 && !f.joinable(targets); tries++ {
		// It was another upstream that failed, or has no such blob.
		f.depart()
		if f, err = s.follow(ctx, d, repo, targets, -1); err != nil {
			return nil, err
		}
		f.attend(1)
		size, err = f.sized(ctx)
	}
	if err == nil && size == 0 {
		err = f.proven(ctx) // there is no last byte that could be held back
	}
	if err == nil {
		var offset, length int64
		if offset, length, err = r.Resolve(size); err == nil {
			s.meters.readers.Add(1)
			return &reader{f: f, ctx: ctx, at: offset, end: offset + length, length: length, whole: size}, nil
		}
	}
	f.depart()
	return nil, err
}

// join returns the fill that is under way, nil if there is none.
func (s *Service) join(ctx context.Context, repo registry.Name, targets []target, d registry.Digest) (*fill, error) {
	s.mu.Lock()
	f, ok := s.fills[d]
	if !ok {
		s.mu.Unlock()
		return nil, nil
	}
	f.mu.Lock()
	f.refs++
	f.mu.Unlock()
	s.mu.Unlock()
	if err := s.enter(ctx, f, repo, targets); err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// enter makes repo one of those that a fill is for. Who comes from another upstream
// must be served by that, too: what one upstream gives away for our credentials is
// not for the readers of another.
func (s *Service) enter(ctx context.Context, f *fill, repo registry.Name, targets []target) error {
	if !f.joinable(targets) {
		if _, err := s.headBlob(ctx, targets, f.digest); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.repos[repo] = true
	stored := f.stored // it was linked before we said who else wants it
	f.mu.Unlock()
	if stored.Digest != "" {
		if _, err := s.catalog.LinkCached(ctx, installation, repo, stored); err != nil {
			return fmt.Errorf("linking a blob: %w", err)
		}
	}
	s.meters.joined.Inc()
	return nil
}

// joinable reports whether a fill reads from the repositories that targets name.
func (f *fill) joinable(targets []target) bool {
	return slices.EqualFunc(f.targets, targets, func(a, b target) bool { return a.rule == b.rule && a.remote == b.remote })
}

func (s *Service) headBlob(ctx context.Context, targets []target, d registry.Digest) (int64, error) {
	if s.lacks(targets[0].repo, d) {
		return 0, registry.ErrBlobUnknown
	}
	var size int64
	err := s.each(targets, func(t target, h *upstream.Host) (err error) {
		size, err = h.HeadBlob(ctx, t.remote, d)
		return err
	})
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrManifestUnknown) {
		s.lacking(targets[0].repo, d)
		err = registry.ErrBlobUnknown
	}
	return size, err
}

// lacks reports whether the upstream of repo has just said that it has no such blob.
func (s *Service) lacks(repo registry.Name, d registry.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing.has(tagKey{repo, registry.Reference{Digest: d}, true}, s.now())
}

func (s *Service) lacking(repo registry.Name, d registry.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing.add(tagKey{repo, registry.Reference{Digest: d}, true}, s.now())
}

// sized waits for the size of the blob.
func (f *fill) sized(ctx context.Context) (int64, error) {
	for {
		f.mu.Lock()
		size, err, stored, changed, ended := f.size, f.err, f.stored, f.changed, f.ended
		f.mu.Unlock()
		switch {
		case err != nil:
			if errors.Is(err, registry.ErrManifestUnknown) {
				err = registry.ErrBlobUnknown
			}
			return 0, err
		case stored.Digest != "" && size < 0:
			return stored.Size, nil
		case size >= 0:
			return size, nil
		case ended:
			return 0, errClosing
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// proven waits until all bytes have been compared with the digest.
func (f *fill) proven(ctx context.Context) error {
	for {
		f.mu.Lock()
		ok, err, changed := f.verified || f.stored.Digest != "", f.err, f.changed
		f.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reader follows a fill.
type reader struct {
	f      *fill
	ctx    context.Context
	at     int64
	end    int64
	length int64
	whole  int64
	local  registry.Content // once the bytes come from the blobstore
	stay   bool             // they can't
	closed atomic.Bool
	once   sync.Once // of Close
	leave  sync.Once // of giving the fill's file back
}

// Size implements registry.Content.
func (r *reader) Size() int64 { return r.length }

// Close implements registry.Content.
func (r *reader) Close() error {
	r.closed.Store(true)
	var err error
	r.once.Do(func() {
		r.f.s.meters.readers.Add(-1)
		// Whoever waits in Read is woken by the change.
		r.f.update(func() {})
		if r.local != nil {
			err = r.local.Close()
		}
		r.leave.Do(r.f.depart)
	})
	return err
}

// available waits until there are bytes, and returns how many may be read now. The
// last byte of the blob is held back until all were compared with the digest.
func (r *reader) available() (int64, error) {
	for {
		if r.closed.Load() {
			return 0, fs.ErrClosed
		}
		f := r.f
		f.mu.Lock()
		have, verified, mounted, err, changed := f.have, f.verified, f.stored.Digest != "" && f.have == 0, f.err, f.changed
		hidden := f.hidden
		f.mu.Unlock()
		if hidden {
			have = 0
		}
		if !verified && have >= r.whole {
			have = r.whole - 1
		}
		switch n := min(have, r.end) - r.at; {
		case n > 0:
			return n, nil
		case err != nil:
			return 0, err
		case mounted:
			return 0, errMounted
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.local != nil {
		return r.local.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.at == r.end {
		return 0, io.EOF
	}
	if !r.stay && r.end-r.at > muchLeft && r.f.kept() {
		if err := r.turn(); err == nil {
			return r.local.Read(p)
		}
		r.stay = true
	}
	n, err := r.available()
	if errors.Is(err, errMounted) {
		if err := r.turn(); err != nil {
			return 0, err
		}
		return r.local.Read(p)
	}
	if err != nil {
		return 0, err
	}
	got, err := r.f.file.ReadAt(p[:min(n, int64(len(p)))], r.at)
	r.at += int64(got)
	if got > 0 {
		return got, nil
	}
	return 0, registry.CutOff(err)
}

// muchLeft is how many bytes are worth it to go on with the stored copy: as long as
// somebody reads it, the staged file takes the room that the copy takes as well.
const muchLeft = 4 << 20

// kept reports whether the fill has ended and its blob is stored.
func (f *fill) kept() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended && f.stored.Locator != ""
}

// turn goes on with the copy that is here, and lets go of the staged file.
func (r *reader) turn() error {
	c, err := r.f.s.blobs.Open(r.ctx, r.f.stored, registry.Range{Offset: r.at, Length: r.end - r.at})
	if err != nil {
		return err
	}
	r.local = c
	r.leave.Do(r.f.depart)
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// WriteTo implements io.WriterTo.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if r.local != nil {
			n, err := r.local.WriteTo(w)
			return total + n, err
		}
		n, err := r.Read(*buf)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
			if m < n {
				return total, io.ErrShortWrite
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
