package registry

import (
	"context"
	"io"
	"strings"
	"time"
)

// Pool names a set of bytes with its own root directory or bucket: the default
// pool "", or a key of storage.subPaths. The [Catalog] chooses it from the
// repository's name. An unknown pool is [ErrUnavailable].
type Pool string

// Locator says where in its pool one copy of a blob lies. It is opaque to all
// but the blobstore, and new for each upload, so that removing an old copy can
// never hit a newer one of the same digest.
type Locator string

// Born returns when the upload began that made the copy, the zero time if the
// locator does not say: every driver of ours has the upload's ID in its locators,
// alone or between dots. A copy that nobody knows may have been made a moment
// ago; this is how to tell.
func (l Locator) Born() time.Time {
	for part := range strings.SplitSeq(string(l), ".") {
		if born := UploadID(part).Time(); !born.IsZero() {
			return born
		}
	}
	return time.Time{}
}

// Stored describes one stored copy of a blob. The zero value means none.
type Stored struct {
	Digest  Digest
	Size    int64 // bytes
	Pool    Pool
	Locator Locator
}

// Range selects Length bytes from Offset on. Length -1 means all that follow.
type Range struct {
	Offset, Length int64
	// Verify asks that bytes are compared with what they should be before they
	// are handed on, see [BlobReader].
	Verify bool
}

// Whole is the range of all bytes.
var Whole = Range{Length: -1}

// Resolve returns r as absolute numbers for content of size bytes, or
// [ErrRangeInvalid] if a part of it lies outside.
func (r Range) Resolve(size int64) (offset, length int64, err error) {
	if r.Length < 0 {
		r.Length = size - r.Offset
	}
	if r.Offset < 0 || r.Length < 0 || r.Offset > size || r.Length > size-r.Offset {
		return 0, 0, ErrRangeInvalid
	}
	return r.Offset, r.Length, nil
}

// Content is an open blob. Read it with io.Copy: WriteTo moves the bytes the
// cheapest way the implementation has (sendfile from disk, received network
// buffers as they are). Wrapping a Content, in io.LimitReader say, hides that.
//
// Content that ends before Size bytes ends with io.ErrUnexpectedEOF, never with
// io.EOF. A Content is for one goroutine; Close may be called from another and
// ends a read in progress.
type Content interface {
	io.ReadCloser
	io.WriterTo
	// Size returns how many bytes the content has in all, not how many are left.
	Size() int64
}

// Blobs stores immutable content. It decides nothing about names or rights and
// it never looks content up by digest: where a copy lies is known to the
// [Catalog].
//
// Durability: when Commit returns without error the bytes survive power loss,
// unless storage.commit is false.
//
// A pool that had a failed fsync refuses Start, Append and Commit with
// [ErrUnavailable] until restart, and goes on reading. A full disk is
// [ErrStorageFull]; it passes when there is space again.
type Blobs interface {
	BlobReader
	Uploads
	Reaper
	Journal
	Checker
}

// BlobReader is the part of [Blobs] that reads.
type BlobReader interface {
	// Open returns the part of s that r selects. When it returns no error the
	// copy is known to exist and to have s.Size bytes: no implementation defers
	// [ErrBlobUnknown] (no such copy, or one of another size) or
	// [ErrRangeInvalid] to the first Read. Ending ctx ends a read in progress.
	// The caller closes the content.
	//
	// If r.Verify is set, no content of a damaged copy ends with io.EOF, and of a
	// part, or of a copy that has checksums, no wrong byte is handed on: Open, or
	// a read, returns [ErrDigestInvalid] instead.
	Open(ctx context.Context, s Stored, r Range) (Content, error)
}

// CutOff returns the error of a read that should have yielded more bytes: an end
// of file is [io.ErrUnexpectedEOF] there.
func CutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// UploadID names an upload session. It is a UUID of version 7 (RFC 9562): its
// first 48 bits are the time of its birth, see [UploadID.Time].
type UploadID string

// Upload is the state of an upload session.
type Upload struct {
	ID     UploadID
	Pool   Pool
	Offset int64 // bytes received, and where the next append must start
}

// Uploads is the part of [Blobs] that takes new bytes, resumably.
//
// A session accepts one call at a time. Of two that overlap the later one gets
// [ErrRangeInvalid], as does one that does not start at the session's offset;
// neither changes anything. [Uploads.Status] tells the true offset.
//
// Bytes that arrived before the reader failed or ctx ended stay in the session.
// After a crash the offset may be smaller than one that was reported before
// (at most 64 MiB or 5 s of bytes), but it always counts bytes that are there.
// Sessions nobody touches for a day are removed.
//
// A session that does not exist, or never did, is [ErrUploadUnknown].
type Uploads interface {
	// Start opens a session in pool p. alg is the algorithm of the digest that
	// Commit will ask for, if known; otherwise it is [SHA256] or "". It only
	// saves work: Commit takes any digest.
	Start(ctx context.Context, p Pool, alg Algorithm) (Upload, error)

	// Append adds the bytes of r at offset and returns the new state. On an
	// error of r it returns that error and the state, too.
	Append(ctx context.Context, u Upload, r io.Reader) (Upload, error)

	// Status returns the state of session u.ID of pool u.Pool.
	Status(ctx context.Context, u Upload) (Upload, error)

	// Commit adds the bytes of last (nil means none) at u.Offset, and turns the
	// session into a blob if all bytes hash to want; the session is gone then.
	// If they do not, it returns [ErrDigestInvalid] and the session keeps its
	// bytes. Repeating a Commit that succeeded returns the same Stored for as
	// long as that copy exists.
	Commit(ctx context.Context, u Upload, last io.Reader, want Digest) (Stored, error)

	// Abort removes the session and its bytes.
	Abort(ctx context.Context, u Upload) error
}

// Reaper is the part of [Blobs] that maintenance needs.
type Reaper interface {
	// Remove deletes the copy s. A copy that is not there is no error.
	Remove(ctx context.Context, s Stored) error

	// Verify reads the whole copy s, at most rate bytes a second if that is not 0.
	// It returns [ErrDigestInvalid] if its bytes do not hash to s.Digest or are
	// lost, and [ErrBlobUnknown] if there is no such copy or it has another size.
	Verify(ctx context.Context, s Stored, rate int64) error

	// Copies lists at most limit (1 to 1,000) stored copies of pool p, ordered by
	// digest and then in an order of its own, from the one behind after (nil: from
	// the start; an after without a locator comes before all copies of its
	// digest). A list shorter than limit is the last. A copy made or removed
	// meanwhile may or may not be in it.
	Copies(ctx context.Context, p Pool, after *Stored, limit int) ([]Stored, error)
}

// MaxPresigned is the longest life of a presigned URL.
const MaxPresigned = 15 * time.Minute

// Presigner is what [Blobs] can do besides when some pools are in an object
// store: let clients read bytes from there.
type Presigner interface {
	// Presign returns a URL by which whoever has it can read the copy s with GET,
	// with or without a Range, for at most [MaxPresigned]. It does not look
	// whether there is such a copy. A pool that has no such URLs is
	// [ErrUnsupported].
	Presign(ctx context.Context, s Stored) (string, error)
}

// Checker tells how a service feels, for readiness probes.
type Checker interface {
	// Check returns an error if the service can't serve at all.
	Check(ctx context.Context) (Health, error)
}

// Health is what a serving service has to say of itself.
type Health struct {
	// ReadOnly says why writes are refused, "" if they are not.
	ReadOnly string
	// Pressure says how scarce storage is where it is scarcest: 0 is plenty, 1 is as
	// scarce as the operator wants it at most. Who keeps content that nobody needs
	// should keep it shorter.
	Pressure float64
	// Pools says the same of each pool that is under pressure. nil: the service does
	// not tell pools apart, and Pressure is that of all.
	Pools map[Pool]float64
}

// PoolOf returns the pool of pools that repo's bytes belong to: the one whose
// name is "/" and the first component of the repository's name, or else the
// default pool "". zot routes storage.subPaths in the same way.
func PoolOf(repo Name, pools []Pool) Pool {
	first, _, _ := strings.Cut(string(repo), "/")
	for _, p := range pools {
		if strings.TrimPrefix(string(p), "/") == first && p != "" {
			return p
		}
	}
	return ""
}
