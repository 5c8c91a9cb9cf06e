package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

const (
	// maxInFlight is how many parts of one upload are on their way at a time, if
	// there is memory for them.
	maxInFlight = 4
	// saveLimit bounds how long saving what was received may take when the
	// caller has gone.
	saveLimit = 2 * time.Minute
)

// upload is an open upload.
type upload struct {
	driver *Driver
	id     registry.UploadID
	ctx    context.Context // bounds the sending of parts; ends with Close
	cancel context.CancelFunc

	expected registry.Digest // what Expect was told
	inUse    sync.RWMutex    // held by those who use what follows; park locks them out

	tail    *content // the tail of the state, not read yet; nil: none, or parked
	tailLen int64
	tailSum uint32
	parked  bool // the tail is in the state, and not open

	mu      sync.Mutex // guards what follows: Sync runs beside Write
	checked bool       // etag is that of the state
	known   bool       // the multipart upload is, or may be, in the state
	etag    string     // of the state, "" if there is none
	saved   int64      // the offset in the state
	bare    bool       // the state lacks hashes
	multi   multipart
	parts   []*part
	buf     *[]byte // bytes behind the parts, nil: none
	fill    int     // how many
	sending sync.WaitGroup
	err     error // why bytes that were written are lost
	sealed  bool  // the multipart upload was completed: nothing can be added
}

// multipart is the multipart upload of an upload. It is begun with the first
// part.
type multipart struct {
	mu     sync.Mutex
	object object
	digest registry.Digest // the one in the key of a named object
	id     string          // S3's, "" if it was not begun
}

// key returns where the multipart upload, which has begun, goes.
func (m *multipart) key(d *Driver) string { return d.keys.data(m.object, m.digest) }

// part is a full part, sent or on its way.
type part struct {
	done chan struct{} // closed when it was sent, or could not be
	etag string        // valid then, if the upload has no error
}

var sent = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (d *Driver) newUpload(ctx context.Context, id registry.UploadID) *upload {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &upload{driver: d, id: id, ctx: ctx, cancel: cancel}
}

// Expect implements [blobstore.UploadFile].
func (u *upload) Expect(d registry.Digest) { u.expected = d }

// Write implements [blobstore.UploadFile].
func (u *upload) Write(ctx context.Context, p []byte) (int, error) {
	u.inUse.RLock()
	defer u.inUse.RUnlock()
	if err := u.loadTail(ctx); err != nil {
		return 0, err
	}
	written := 0
	for len(p) > 0 {
		if err := u.room(ctx); err != nil {
			return written, err
		}
		u.mu.Lock()
		n := copy((*u.buf)[u.fill:], p)
		u.fill += n
		u.mu.Unlock()
		p, written = p[n:], written+n
	}
	return written, nil
}

// room makes the buffer have space. A full part is sent before.
func (u *upload) room(ctx context.Context) error {
	u.mu.Lock()
	if u.err != nil {
		defer u.mu.Unlock()
		return u.err
	}
	full := u.fill == partSize
	if len(u.parts) >= maxParts || full && len(u.parts) == maxParts-1 {
		defer u.mu.Unlock()
		return registry.ErrTooLarge.With("a blob in an object store has at most %d bytes", int64(maxParts)*partSize)
	}
	if full {
		u.ship()
	}
	buf, fill := u.buf, u.fill
	first, wait := len(u.parts) == 0, u.oldestInFlight()
	u.mu.Unlock()
	if buf != nil && fill < len(*buf) {
		return nil
	}
	if buf == nil && first {
		u.setBuffer(u.driver.memory.getSmall())
		return nil
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	large, err := u.driver.memory.getLarge(ctx)
	if err != nil {
		return err
	}
	if buf != nil {
		copy(*large, (*buf)[:fill])
	}
	u.setBuffer(large)
	return nil
}

// setBuffer gives the old buffer back.
func (u *upload) setBuffer(b *[]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.driver.memory.put(u.buf)
	u.swap(b)
}

// swap makes b the buffer. The caller holds u.mu and has put the old one to
// another use.
func (u *upload) swap(b *[]byte) {
	u.buf = b
	if b != nil && len(*b) == partSize {
		u.driver.memory.begins(u)
	} else {
		u.driver.memory.ends(u)
	}
}

// oldestInFlight returns what to wait for before another part may be sent, nil
// if nothing. The caller holds u.mu.
func (u *upload) oldestInFlight() <-chan struct{} {
	if i := len(u.parts) - maxInFlight; i >= 0 {
		return u.parts[i].done
	}
	return nil
}

// ship starts to send the full buffer. The caller holds u.mu.
func (u *upload) ship() {
	p := &part{done: make(chan struct{})}
	u.parts = append(u.parts, p)
	number, buf := len(u.parts), u.buf
	u.swap(nil)
	u.fill = 0
	u.sending.Go(func() {
		defer close(p.done)
		defer u.driver.memory.put(buf)
		etag, err := u.send(u.ctx, number, *buf)
		if err != nil {
			u.lose(err)
			return
		}
		p.etag = etag
	})
}

// lose makes the upload useless: bytes that were accepted are gone.
func (u *upload) lose(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
}

// send sends one part.
func (u *upload) send(ctx context.Context, number int, b []byte) (etag string, err error) {
	key, id, err := u.begin(ctx)
	if err != nil {
		return "", err
	}
	etag, err = u.driver.client.part(ctx, key, id, number, b)
	return etag, unknown(err, registry.ErrUploadUnknown)
}

// begin begins the multipart upload unless it has begun, and returns its key
// and id.
func (u *upload) begin(ctx context.Context) (key, id string, err error) {
	m := &u.multi
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id == "" {
		m.object, m.digest = u.newObject(), u.expected
		if m.id, err = u.driver.client.begin(ctx, u.driver.keys.data(m.object, m.digest)); err != nil {
			return "", "", err
		}
	}
	return u.driver.keys.data(m.object, m.digest), m.id, nil
}

// newObject returns where to put what is expected.
func (u *upload) newObject() object {
	o := object{kind: anonymous, id: u.id, nonce: newNonce()}
	if u.expected != "" {
		o.kind = named
	}
	return o
}

// size returns how many bytes the upload has.
func (u *upload) size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int64(len(u.parts))*partSize + int64(u.fill) + u.tailLen
}

// Save implements [blobstore.UploadFile].
func (u *upload) Save(blobstore.State) error { return nil }

// Sync implements [blobstore.UploadFile].
func (u *upload) Sync(s blobstore.State) error {
	u.inUse.RLock()
	defer u.inUse.RUnlock()
	ctx, cancel := context.WithTimeout(u.ctx, saveLimit)
	defer cancel()
	u.mu.Lock()
	if u.sealed {
		u.mu.Unlock()
		return u.giveUp(ctx)
	}
	// What a parked upload has saved goes beyond what a late Sync knows of.
	if u.err != nil || u.checked && s.Offset == u.saved && !u.bare || u.parked && s.Offset < u.saved {
		defer u.mu.Unlock()
		return u.err
	}
	parked := u.parked
	u.mu.Unlock()
	if parked && s.Offset%partSize != 0 {
		if err := u.loadTail(ctx); err != nil {
			return err
		}
	}
	return u.save(ctx, s)
}

// save writes the state, with the tail that is in the buffer.
func (u *upload) save(ctx context.Context, s blobstore.State) error {
	u.mu.Lock()
	if u.fill == partSize {
		u.ship()
	}
	full, etag := u.parts[:s.Offset/partSize], u.etag
	var tail []byte
	if s.Offset%partSize != 0 {
		tail = (*u.buf)[:u.fill] // nobody writes: see blobstore.Traits
	}
	u.mu.Unlock()
	if s.Offset == 0 {
		return u.check(ctx)
	}
	rec := record{Writer: newNonce(), Offset: s.Offset, Hashes: s.Hashes, Sums: s.Sums}
	var err error
	if rec.Parts, err = u.etags(ctx, full); err != nil {
		return err
	}
	if len(rec.Parts) > 0 {
		u.multi.mu.Lock()
		rec.Object, rec.Digest, rec.Multipart = u.multi.object.locator(), u.multi.digest, u.multi.id
		u.multi.mu.Unlock()
		u.mu.Lock()
		u.known = true
		u.mu.Unlock()
	}
	etag, err = u.driver.writeState(ctx, u.id, rec, tail, etag)
	if err != nil {
		if _, lost := errors.AsType[*conflict](err); lost {
			u.lose(err)
		}
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.checked, u.etag, u.saved, u.bare = true, etag, s.Offset, len(s.Hashes) == 0
	return nil
}

// giveUp ends an upload whose multipart upload was completed for nothing.
func (u *upload) giveUp(ctx context.Context) error {
	// If the state knows the object, whoever ends the upload decides about it.
	if err := u.driver.Discard(ctx, u.id, time.Time{}); err != nil || u.known {
		return err
	}
	return unknownIsGone(u.driver.client.remove(ctx, u.multi.key(u.driver)))
}

// check finds out whether an upload that was believed to be new is.
func (u *upload) check(ctx context.Context) error {
	now, _, err := u.driver.readState(ctx, u.id)
	switch {
	case isNone(err):
		return nil
	case err != nil:
		return err
	}
	return &conflict{now: now, err: errChanged}
}

// etags waits until parts are sent and returns their ETags.
func (u *upload) etags(ctx context.Context, parts []*part) ([]string, error) {
	all := make([]string, len(parts))
	for i, p := range parts {
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, registry.ErrUnavailable.Because(fmt.Errorf("sending part %d of upload %s: %w", i+1, u.id, ctx.Err()))
		}
		all[i] = p.etag
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return all, u.err
}

// Close implements [blobstore.UploadFile].
func (u *upload) Close() error {
	u.inUse.RLock()
	defer u.inUse.RUnlock()
	u.cancel()
	u.sending.Wait()
	u.setBuffer(nil)
	if u.tail != nil {
		u.tail.Close()
	}
	return nil
}
