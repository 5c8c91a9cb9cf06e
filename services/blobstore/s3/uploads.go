package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// believed is how long an id without a state is taken for an upload that has no
// bytes yet, and how long at least the state of one that has ended is kept.
const believed = 25 * time.Hour

// Create implements [blobstore.Driver]. It makes no request.
func (d *Driver) Create(ctx context.Context, born time.Time, alg registry.Algorithm) (registry.UploadID, blobstore.UploadFile, error) {
	id := d.keys.newUploadID(born, alg)
	return id, d.newUpload(ctx, id), nil
}

// Resume implements [blobstore.Driver]. An upload that is said to have no bytes
// is believed to have none until it is saved.
func (d *Driver) Resume(ctx context.Context, id registry.UploadID, at int64) (blobstore.UploadFile, blobstore.Resumed, error) {
	alg, ours := d.keys.algorithm(id)
	if !ours {
		return nil, blobstore.Resumed{}, registry.ErrUploadUnknown
	}
	fresh := blobstore.Resumed{Algorithm: alg}
	young := d.now().Sub(id.Time()) < believed
	if at == 0 && young {
		return d.newUpload(ctx, id), fresh, nil
	}
	rec, st, err := d.openState(ctx, id)
	switch {
	case isNone(err) && young:
		u := d.newUpload(ctx, id)
		u.checked = true
		return u, fresh, nil
	case err != nil:
		return nil, blobstore.Resumed{}, unknown(err, registry.ErrUploadUnknown)
	case rec.Ended != "":
		return nil, blobstore.Resumed{}, registry.ErrUploadUnknown
	}
	u := d.newUpload(ctx, id)
	u.checked, u.etag, u.saved = true, st.etag, rec.Offset
	u.tail, u.tailLen, u.tailSum = st.tail, rec.Tail, rec.TailSum
	if rec.Object != "" {
		u.multi.object, _ = parseLocator(rec.Object)
		u.multi.digest, u.multi.id = rec.Digest, rec.Multipart
		u.known = true
	}
	for _, etag := range rec.Parts {
		u.parts = append(u.parts, &part{done: sent, etag: etag})
	}
	return u, blobstore.Resumed{Safe: blobstore.State{Offset: rec.Offset, Hashes: rec.Hashes, Sums: rec.Sums}, Algorithm: alg}, nil
}

// Uploads implements [blobstore.Driver].
func (d *Driver) Uploads(ctx context.Context) iter.Seq2[blobstore.UploadInfo, error] {
	return func(yield func(blobstore.UploadInfo, error) bool) {
		for o, err := range d.states(ctx) {
			id, ok := d.keys.parseState(o.key)
			if err == nil && (!ok || o.size < minLive) {
				continue
			}
			if !yield(blobstore.UploadInfo{ID: id, Touched: o.modified}, err) || err != nil {
				return
			}
		}
	}
}

// states lists the states of uploads, those that have ended as well.
func (d *Driver) states(ctx context.Context) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		for from, more := "", true; more; {
			var page []listed
			var err error
			page, more, err = d.client.list(ctx, d.keys.uploads(), from, 1000)
			if err != nil {
				yield(listed{}, err)
				return
			}
			for _, o := range page {
				from = o.key
				if !yield(o, nil) {
					return
				}
			}
			more = more && len(page) > 0
		}
	}
}

// Discard implements [blobstore.Driver]. What is left says that the upload was
// aborted.
func (d *Driver) Discard(ctx context.Context, id registry.UploadID, notAfter time.Time) error {
	for {
		rec, etag, err := d.readState(ctx, id)
		switch {
		case isNone(err) && !notAfter.IsZero():
			return nil
		case err != nil && !isNone(err):
			return err
		case rec.Ended != "":
			return nil
		}
		if !notAfter.IsZero() {
			h, err := d.client.head(ctx, d.keys.state(id))
			if err != nil || h.modified.After(notAfter) {
				return unknownIsGone(err)
			}
		}
		err = d.discard(ctx, id, rec, etag)
		if _, again := errors.AsType[*conflict](err); !again {
			return err
		}
	}
}

// discard ends the upload of that record, unless somebody has continued it: a
// call that has just published it must not lose its object.
func (d *Driver) discard(ctx context.Context, id registry.UploadID, rec record, etag string) error {
	if _, err := d.writeState(ctx, id, record{Writer: newNonce(), Ended: aborted}, nil, etag); err != nil {
		return err
	}
	return d.drop(ctx, rec)
}

// drop removes what the record of an upload that is gone points to.
func (d *Driver) drop(ctx context.Context, rec record) error {
	if rec.Object == "" {
		return nil
	}
	o, _ := parseLocator(rec.Object)
	key := d.keys.data(o, rec.Digest)
	if rec.Multipart != "" {
		if err := d.client.abort(ctx, key, rec.Multipart); err != nil {
			return err
		}
	}
	// It may have been completed by a call that did not end well. Then nobody
	// was told of the object. The checksums of one that has a name are found by that.
	if o.kind == named {
		if err := unknownIsGone(d.client.remove(ctx, d.keys.sums(o, rec.Digest))); err != nil {
			return err
		}
	}
	return unknownIsGone(d.client.remove(ctx, key))
}

// CheckUpload implements [blobstore.Driver].
func (d *Driver) CheckUpload(ctx context.Context, id registry.UploadID) (string, error) {
	rec, _, err := d.readState(ctx, id)
	switch {
	case isNone(err):
		return "", nil
	case err != nil:
		return fmt.Sprintf("its state can't be read: %v", err), nil
	case rec.Ended != "" || len(rec.Parts) == 0:
		return "", nil
	}
	o, _ := parseLocator(rec.Object)
	key := d.keys.data(o, rec.Digest)
	sizes, err := d.client.partSizes(ctx, key, rec.Multipart)
	if isNone(err) {
		// A commit that did not end has made them one object: another one finds it.
		h, err := d.client.head(ctx, key)
		if err != nil && !isNone(err) {
			return "", err
		}
		if err == nil && h.size >= rec.Offset {
			return "", nil
		}
		return fmt.Sprintf("its state counts %d parts, and there are none", len(rec.Parts)), nil
	}
	if err != nil {
		return "", err
	}
	for i, etag := range rec.Parts {
		if sizes[partID(i+1, etag)] != partSize {
			return fmt.Sprintf("its state counts %d parts, and part %d is not there", len(rec.Parts), i+1), nil
		}
	}
	return "", nil
}
