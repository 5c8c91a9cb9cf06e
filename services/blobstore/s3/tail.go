package s3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// loadTail reads the tail of the state into a buffer.
func (u *upload) loadTail(ctx context.Context) error {
	if u.parked {
		if err := u.reopen(ctx); err != nil {
			return err
		}
	}
	if u.tail == nil {
		return nil
	}
	buf := u.driver.memory.getSmall()
	if u.tailLen > smallSize || len(u.parts) > 0 {
		u.driver.memory.put(buf)
		var err error
		if buf, err = u.driver.memory.getLarge(ctx); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(u.tail, (*buf)[:u.tailLen])
	u.tail.Close()
	if err == nil && checksum((*buf)[:u.tailLen]) != u.tailSum {
		err = errors.New("the bytes are not those that were saved")
	}
	if err != nil {
		u.driver.memory.put(buf)
		err = registry.ErrUnavailable.Because(fmt.Errorf("reading the tail of upload %s: %w", u.id, err))
		u.lose(err)
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.swap(buf)
	u.fill = int(u.tailLen)
	u.tail, u.tailLen = nil, 0
	return nil
}

// park gives up the large buffer that the upload is filling: its bytes go into
// the state, from where the next call that needs them reads them again. It
// reports whether there was one. An upload that is in use is left alone, which it
// is not for most of the time if it is slow.
//
// The state lacks hashes, as nobody here knows them. Should the process end now,
// who continues the upload hashes all of its bytes again.
func (u *upload) park() bool {
	if !u.inUse.TryLock() {
		return false
	}
	defer u.inUse.Unlock()
	u.mu.Lock()
	offset, lost := int64(len(u.parts))*partSize+int64(u.fill), u.err != nil || u.sealed
	fits := u.buf != nil && len(*u.buf) == partSize && u.fill > 0 && u.fill < partSize
	u.mu.Unlock()
	if lost || !fits {
		return false
	}
	ctx, cancel := context.WithTimeout(u.ctx, saveLimit)
	defer cancel()
	if u.saved != offset { // a Sync may have been here
		if err := u.save(ctx, blobstore.State{Offset: offset}); err != nil {
			return false // who owns the upload will see it as well
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	b := (*u.buf)[:u.fill]
	u.tailLen, u.tailSum, u.parked = int64(u.fill), checksum(b), true
	u.driver.memory.put(u.buf)
	u.swap(nil)
	u.fill = 0
	return true
}

// reopen opens the tail of an upload that was parked.
func (u *upload) reopen(ctx context.Context) error {
	rec, st, err := u.driver.openState(ctx, u.id)
	if err != nil {
		return unknown(err, registry.ErrUploadUnknown)
	}
	if st.etag != u.etag || st.tail == nil {
		if st.tail != nil {
			st.tail.Close()
		}
		err := &conflict{now: rec, err: errChanged}
		u.lose(err)
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tail, u.parked = st.tail, false
	return nil
}
