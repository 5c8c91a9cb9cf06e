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
//
// A failed sync is a [*SyncError]. Other errors are passed on as they came from
// the storage; the Store looks for the errors of package syscall in them.
//
// The Pool of a [registry.Stored] means nothing to a driver.
type Driver interface {
	// Create makes an empty upload. It need not be durable.
	Create(ctx context.Context, id registry.UploadID) (UploadFile, error)

	// Resume opens an upload to continue it, or returns
	// [registry.ErrUploadUnknown].
	Resume(ctx context.Context, id registry.UploadID) (UploadFile, Resumed, error)

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

	// Remove removes the copy s. No such copy is no error.
	Remove(ctx context.Context, s registry.Stored) error

	// Copies lists at most limit copies, ordered by digest and locator, from the
	// one behind after (nil: from the start).
	Copies(ctx context.Context, after *registry.Stored, limit int) ([]registry.Stored, error)

	// Check returns an error if the storage can't be reached.
	Check(ctx context.Context) error

	// Close gives the storage up for another process.
	Close() error
}

// UploadFile is an upload that is open.
type UploadFile interface {
	// Write appends p. It returns how much of p was appended, also on an error.
	Write(p []byte) (int, error)

	// ReadAt reads bytes that were written.
	io.ReaderAt

	// Truncate drops all bytes from size on, and state saved for them.
	Truncate(size int64) error

	// Save records a state such that it survives the end of the process. It
	// must be cheap.
	Save(s State) error

	// Sync makes the first s.Offset bytes durable, then records s such that it
	// survives the loss of power. It may run while Write and Save do.
	Sync(s State) error

	// Publish makes all bytes durable under digest d and returns when they are.
	// The upload is gone then. If Publish returns an error that is not a
	// [*SyncError], the upload is as before.
	Publish(ctx context.Context, d registry.Digest) (registry.Locator, error)

	// Close closes the file. The upload stays.
	Close() error
}

// State is how far an upload has come.
type State struct {
	Offset int64 // bytes
	// Hashes are the states of hashes over these bytes. One that is missing is
	// made by reading the bytes again.
	Hashes []HashState
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
	Claimed State
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
