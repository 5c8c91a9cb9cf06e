package metadata

import (
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlFsckBlobs = `
		SELECT pool, digest, size, locator, inline FROM blobs
		WHERE (pool, digest) > ($1, $2) ORDER BY pool, digest LIMIT $3`
	sqlFsckCopy = `
		SELECT 1 FROM blobs WHERE pool = $1 AND digest = $2 AND locator = $3
		UNION ALL
		SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3`
)

// unknownAge is how old a copy nobody knows must be to be a finding: a younger
// one may be of an upload that has not been linked yet.
const unknownAge = 24 * time.Hour

// blobRow is a blob as it is stored.
type blobRow struct {
	registry.Stored
	packed []byte // the digest
	inline []byte
}

// blobRows looks for the copy of each blob.
func (k *fsck) blobRows() error {
	last := blobRow{packed: []byte{}}
	for {
		n, err := each(k, sqlFsckBlobs, []any{string(last.Pool), last.packed, fsckPage},
			func(rows *sqldb.Rows, b *blobRow) error {
				return rows.Scan(&b.Pool, &b.packed, &b.Size, &b.Locator, &b.inline)
			},
			func(b blobRow) error {
				last = b
				return k.blobRow(b)
			})
		if err != nil || n < fsckPage {
			return err
		}
	}
}

func (k *fsck) blobRow(b blobRow) error {
	var err error
	if b.Digest, err = unpack(b.packed); err != nil {
		return k.report("I12", "", "", "a blob's digest is malformed: %x", b.packed)
	}
	if b.inline != nil {
		if b.Digest.Algorithm().FromBytes(b.inline) != b.Digest {
			return k.report("I1", "", b.Digest, "the bytes of a mounted manifest do not hash to its digest")
		}
		return nil
	}
	if k.read(b.Digest) {
		err = k.blobs.Verify(k.ctx, b.Stored, 0)
	} else {
		err = k.open(b.Stored)
	}
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		return k.report("I12", "", b.Digest, "the blob's copy %s in pool %q is missing or has not %d bytes", b.Locator, b.Pool, b.Size)
	case errors.Is(err, registry.ErrDigestInvalid):
		return k.report("I5", "", b.Digest, "the bytes of the blob's copy %s in pool %q do not hash to its digest", b.Locator, b.Pool)
	}
	return err
}

// open finds out whether a copy is there and has the right size.
func (k *fsck) open(s registry.Stored) error {
	content, err := k.blobs.Open(k.ctx, s, registry.Range{})
	if err != nil {
		return err
	}
	return content.Close()
}

// copies looks for stored copies that nothing knows.
func (k *fsck) copies() error {
	pools := []registry.Pool{""}
	for _, p := range k.c.opt.Pools {
		if p != "" {
			pools = append(pools, p)
		}
	}
	for _, p := range pools {
		if err := k.copiesOf(p); err != nil {
			return err
		}
	}
	return nil
}

func (k *fsck) copiesOf(p registry.Pool) error {
	var last *registry.Stored
	for {
		page, err := k.blobs.Copies(k.ctx, p, last, fsckPage)
		if err != nil {
			return err
		}
		for _, s := range page {
			s.Pool = p
			if err := k.copy(s); err != nil {
				return err
			}
		}
		if len(page) < fsckPage {
			return nil
		}
		last = &page[len(page)-1]
	}
}

func (k *fsck) copy(s registry.Stored) error {
	digest, err := pack(s.Digest)
	if err != nil {
		return err
	}
	rows, err := readPage(k.ctx, k.c.db, sqlFsckCopy, []any{string(s.Pool), digest, string(s.Locator)},
		func(rows *sqldb.Rows, one *int) error { return rows.Scan(one) })
	if err != nil || len(rows) > 0 {
		return err
	}
	// A locator that does not say when it was born is that of an old copy.
	if k.c.opt.Now().Sub(s.Locator.Born()) < unknownAge {
		return nil
	}
	return k.report("I12", "", s.Digest, "nothing knows the copy %s in pool %q", s.Locator, s.Pool)
}
