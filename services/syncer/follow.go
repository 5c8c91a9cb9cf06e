package syncer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
)

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
	joined bool             // others had begun to fetch the blob, and this is not counted yet
	closed atomic.Bool
	once   sync.Once // of Close
	leave  sync.Once // of giving the fill's file back

	mu  sync.Mutex // guards own
	own *os.File   // the staged file, opened again for its own offset
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
		err = errors.Join(err, r.closeOwn())
		r.leave.Do(func() { r.f.release(client) })
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

// next waits until there is something to read, and says how much, or that it is to be
// read from the stored copy. io.EOF at the end.
func (r *reader) next() (n int64, local bool, err error) {
	if r.local != nil {
		return 0, true, nil
	}
	if r.at == r.end {
		r.count()
		return 0, false, io.EOF
	}
	if !r.stay && r.end-r.at > muchLeft && r.f.kept() {
		if err := r.turn(); err == nil {
			return 0, true, nil
		}
		r.stay = true
	}
	n, err = r.available()
	if errors.Is(err, errMounted) {
		err = r.turn()
		return 0, err == nil, err
	}
	return n, false, err
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 && r.local == nil {
		return 0, nil
	}
	n, local, err := r.next()
	switch {
	case err != nil:
		return 0, err
	case local:
		return r.local.Read(p)
	}
	got, err := r.f.file.ReadAt(p[:min(n, int64(len(p)))], r.at)
	r.at += int64(got)
	if got > 0 {
		return got, nil
	}
	return 0, registry.CutOff(err)
}

// count notes that the bytes were not fetched for this reader, if that is so.
func (r *reader) count() {
	if r.joined {
		r.joined = false
		r.f.targets[0].rule.state.saved.Add(r.length)
	}
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
	r.count()
	r.leave.Do(func() { r.f.release(client) })
	return r.closeOwn()
}

func (r *reader) closeOwn() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		return nil
	}
	own := r.own
	r.own = nil
	return own.Close()
}

var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// WriteTo implements io.WriterTo. A writer that takes files gets the staged one, so
// that the kernel may copy; see the gateway's sender.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	if _, ok := w.(io.ReaderFrom); ok {
		if own := r.reopen(); own != nil {
			return r.pass(w, own)
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	total, err := io.CopyBuffer(struct{ io.Writer }{w}, staged{r}, *buf)
	if err != nil || r.local == nil {
		return total, err
	}
	n, err := r.local.WriteTo(w)
	return total + n, err
}

// staged reads until the reader has gone on with the copy that is here.
type staged struct{ r *reader }

func (s staged) Read(p []byte) (int, error) {
	if s.r.local != nil {
		return 0, io.EOF
	}
	return s.r.Read(p)
}

// reopen opens the staged file for this reader alone. nil: that can't be done, because
// the file has another name by now.
func (r *reader) reopen() *os.File {
	if r.local != nil {
		return nil
	}
	own, err := os.Open(r.f.file.Name())
	if err != nil {
		return nil
	}
	ours, err := r.f.file.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = own.Stat(); err == nil && !os.SameFile(ours, there) {
			err = os.ErrNotExist
		}
	}
	if err == nil {
		_, err = own.Seek(r.at, io.SeekStart)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.closed.Load() {
		own.Close()
		return nil
	}
	r.own = own
	return own
}

// pass gives w the reader's own file, as far as it may be read.
func (r *reader) pass(w io.Writer, own *os.File) (total int64, err error) {
	for {
		n, local, err := r.next()
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		case local:
			n, err := r.local.WriteTo(w)
			return total + n, err
		}
		sent, err := io.Copy(w, &io.LimitedReader{R: own, N: n})
		total += sent
		r.at += sent
		if err == nil && sent < n {
			err = io.ErrUnexpectedEOF // the staged file lacks what is said to be there
		}
		if err != nil {
			return total, err
		}
	}
}
