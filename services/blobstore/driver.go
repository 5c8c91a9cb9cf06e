package blobstore

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Driver moves the bytes of one pool. It makes no decisions: the [Store] never
// asks for two things at once of one upload, other than [UploadFile.Sync].
// Another Store on storage that is shared may, see [Traits].
//
// A failed sync is a [*SyncError]. Other errors are passed on as they came from
// the storage; the Store looks for the errors of package syscall in them.
//
// The Pool of a [registry.Stored] means nothing to a driver.
type Driver interface {
	// Traits never change.
	Traits() Traits

	// Create makes an empty upload that was born at the given time. It need not
	// be durable. alg is what [registry.Uploads.Start] was told.
	Create(ctx context.Context, born time.Time, alg registry.Algorithm) (registry.UploadID, UploadFile, error)

	// Resume opens an upload to continue it at the offset at (-1: anywhere), or
	// returns [registry.ErrUploadUnknown]. Shared storage may put off finding
	// out whether there is such an upload, with that offset, to Sync or Publish.
	Resume(ctx context.Context, id registry.UploadID, at int64) (UploadFile, Resumed, error)

	// Uploads lists what is left of uploads, in any order.
	Uploads(ctx context.Context) iter.Seq2[UploadInfo, error]

	// CheckUpload says what is wrong with the saved state of an upload, "" if
	// nothing is.
	CheckUpload(ctx context.Context, id registry.UploadID) (problem string, err error)

	// Discard removes an upload and its state unless it was touched after
	// notAfter (zero: in any case). No such upload is no error.
	Discard(ctx context.Context, id registry.UploadID, notAfter time.Time) error

	// Published returns the copy that [UploadFile.Publish] made of upload id, or
	// [registry.ErrUploadUnknown]. It is durable when Published returns.
	Published(ctx context.Context, id registry.UploadID, d registry.Digest) (registry.Stored, error)

	// Stat returns the size of a copy, or [registry.ErrBlobUnknown].
	Stat(ctx context.Context, d registry.Digest, l registry.Locator) (int64, error)

	// Open opens n bytes from offset on of the copy s. It returns
	// [registry.ErrBlobUnknown] if there is no such copy or it has not s.Size
	// bytes, and never defers that to the first read.
	Open(ctx context.Context, s registry.Stored, offset, n int64) (registry.Content, error)

	// Sums returns the checksums that are kept with the copy s, nil if there are
	// none, or none that can be believed.
	Sums(ctx context.Context, s registry.Stored) (Sums, error)

	// KeepSums keeps checksums with the copy s, instead of others if there are
	// any. A driver that has no place for them does nothing.
	KeepSums(ctx context.Context, s registry.Stored, sums Sums) error

	// Remove removes the copy s and its checksums. No such copy is no error.
	Remove(ctx context.Context, s registry.Stored) error

	// Copies lists at most limit copies, ordered by digest and locator, from the
	// one behind after (nil: from the start), which may lack a locator.
	Copies(ctx context.Context, after *registry.Stored, limit int) ([]registry.Stored, error)

	JournalDriver

	// Check returns an error if the storage can't be reached.
	Check(ctx context.Context) error

	// Close gives the storage up for another process.
	Close() error
}

// Traits are what the [Store] has to know of a driver.
type Traits struct {
	// Shared says that other processes use the same storage. An upload is then
	// open for one call at a time, and Sync comes before the answer to each.
	Shared bool

	// Part, if it is not 0, is the size of the pieces that storage keeps an
	// upload in, in bytes. No Write crosses a multiple of it, and a Sync while
	// more is written happens at multiples only.
	Part int64
}

// UploadFile is an upload that is open.
type UploadFile interface {
	// Expect says that what is written next will probably be published as d.
	Expect(d registry.Digest)

	// Write appends p. It returns how much of p was appended, also on an error.
	// It may wait for memory until ctx ends.
	Write(ctx context.Context, p []byte) (int, error)

	// Reader returns all bytes that were written. Nothing is written while it
	// is in use.
	Reader(ctx context.Context) (io.ReadCloser, error)

	// Save records a state such that it survives the end of the process. It
	// must be cheap. On shared storage it does nothing.
	Save(s State) error

	// Sync makes the first s.Offset bytes durable, then records s such that it
	// survives the loss of power. It may run while Write and Save do. On shared
	// storage it fails, with [registry.ErrRangeInvalid] or
	// [registry.ErrUploadUnknown], if somebody else has changed the upload.
	Sync(s State) error

	// Publish makes all bytes durable under digest d and returns when they are.
	// The upload is gone then. If Publish returns an error that is not a
	// [*SyncError], the upload is as before. sums, unless nil, are kept with the
	// copy if that can be done; that they are not is no error.
	Publish(ctx context.Context, d registry.Digest, sums Sums) (registry.Locator, error)

	// Close closes the file. The upload stays.
	Close() error
}

// State is how far an upload has come.
type State struct {
	Offset int64 // bytes
	// Hashes are the states of hashes over these bytes. One that is missing is
	// made by reading the bytes again.
	Hashes []HashState
	// Sums are the checksums of these bytes, nil if they are not known.
	Sums *SumState
}

// HashState is a hash that can be continued.
type HashState struct {
	Algorithm registry.Algorithm
	State     []byte // from encoding.BinaryMarshaler
}

// Resumed is what is known of an upload that is continued.
type Resumed struct {
	// Safe was the argument of a [UploadFile.Sync] that succeeded. The next
	// Write appends behind it.
	Safe State
	// Claimed, if its Offset is larger than that of Safe, was recorded by
	// [UploadFile.Save]. Its bytes can be read, but are not known to be right.
	// The UploadFile is a [Rereader] then.
	Claimed State
	// Algorithm is what the upload was created with, if the driver remembers.
	Algorithm registry.Algorithm
}

// Rereader is an [UploadFile] with bytes that were claimed.
type Rereader interface {
	// ReadAt reads bytes that were written or claimed.
	io.ReaderAt
	// Truncate drops all bytes from size on, and state saved for them.
	Truncate(size int64) error
}

// InPlace is [registry.Content] that can be looked at before it is sent. Without
// it bytes that are to be checked have to be held in memory meanwhile.
type InPlace interface {
	// ReadAt reads bytes of the whole copy, wherever the content is.
	io.ReaderAt
	// SendTo is WriteTo for the next n bytes only.
	SendTo(w io.Writer, n int64) (int64, error)
}

// Sweeper is a [Driver] that knows a better way to remove the uploads nobody
// touched since notAfter than one Discard for each.
type Sweeper interface {
	Sweep(ctx context.Context, notAfter time.Time) error
}

// Presigner is a [Driver] that can let clients read from its storage, see
// [registry.Presigner].
type Presigner interface {
	Presign(ctx context.Context, s registry.Stored) (string, error)
}

// UploadInfo describes an upload in a list.
type UploadInfo struct {
	ID      registry.UploadID
	Touched time.Time // when it was last written to
}

// SyncError says that bytes that were written may be lost.
type SyncError struct {
	Op  string // what was synced
	Err error
}

// Error returns the error as text.
func (e *SyncError) Error() string { return fmt.Sprintf("syncing %s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }
