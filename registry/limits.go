package registry

import (
	"context"
	"time"
)

// Limits is the part of [Catalog] about what may be changed, and how much there is.
type Limits interface {
	// ReadOnlys lists what is read-only, ordered by pattern; that of the config
	// file first.
	ReadOnlys(ctx context.Context, a Actor) ([]ReadOnly, error)

	// SetReadOnly makes repositories read-only, or gives another reason for it. A
	// change that begins after it returned is [ErrUnsupported] then, in other
	// processes some seconds later; one that had begun may still be made. a must be
	// an administrator. [ErrParameterInvalid] if r.Repositories is no pattern;
	// [ErrTooLarge] if there are [MaxReadOnlys].
	SetReadOnly(ctx context.Context, a Actor, r ReadOnly) error

	// ClearReadOnly takes that back for a pattern; no error if it was not set. What
	// the config file says stays.
	ClearReadOnly(ctx context.Context, a Actor, repositories string) error

	// Usage counts what repo has.
	Usage(ctx context.Context, a Actor, repo Name) (Usage, error)
}

// ReadOnly are repositories that nobody may change: maintenance.
type ReadOnly struct {
	Repositories string // a pattern, see package glob
	Reason       string // for those who are refused, at most [MaxReason] bytes
	Actor        string // who said so, "" if anonymous or the config file
	Since        int64  // microseconds since 1970; 0 for the config file
}

// MaxReadOnlys is how many patterns [Limits.SetReadOnly] takes, and MaxReason how
// many bytes a reason may have.
const (
	MaxReadOnlys = 100
	MaxReason    = 500
)

// Usage is what a repository has.
type Usage struct {
	Manifests, Blobs int64 // how many
	// Logical is the size of all of it in bytes, each content once. Unique is the
	// part of that which no other repository has, too: what its end would set free.
	Logical, Unique int64
}

// Shared is the part that other repositories have, too.
func (u Usage) Shared() int64 { return u.Logical - u.Unique }

// OpenUploads is the part of [Catalog] that counts upload sessions by who began
// them, over all gateways. It is told of them some time after they began, and of
// those that end sooner not at all: it decides nothing.
type OpenUploads interface {
	// NoteUploads records which sessions are open and which have ended, at most
	// [MaxUploadNotes], and returns how many each of owners has, in their order, at
	// most [MaxUploadNotes], too. To tell it twice does no harm. A session that was
	// not heard of for [UploadLife] is not counted. [ErrTooLarge] if there are more;
	// [ErrParameterInvalid] if an ID is none, or an owner longer than [MaxUploadOwner].
	NoteUploads(ctx context.Context, notes []UploadNote, owners []string) ([]int64, error)
}

// UploadNote tells of an upload session.
type UploadNote struct {
	ID UploadID
	// Owner is who began it, in the words of who tells. "": it has ended.
	Owner string
}

// Bounds of [OpenUploads]. UploadLife is the time after which the blobstore removes
// a session that nobody touches, and the hour that this may be late.
const (
	MaxUploadNotes = 1000
	MaxUploadOwner = 1024
	UploadLife     = 25 * time.Hour
)

// CheckUploadNotes returns what [OpenUploads.NoteUploads] says of what can't be.
func CheckUploadNotes(notes []UploadNote, owners []string) error {
	if len(notes) > MaxUploadNotes || len(owners) > MaxUploadNotes {
		return ErrTooLarge.With("at most %d uploads at a time", MaxUploadNotes)
	}
	for _, n := range notes {
		if _, err := ParseUploadID(string(n.ID)); err != nil {
			return ErrParameterInvalid.With("no id of an upload")
		}
		if len(n.Owner) > MaxUploadOwner {
			return ErrParameterInvalid.With("an owner has at most %d bytes", MaxUploadOwner)
		}
	}
	for _, o := range owners {
		if len(o) > MaxUploadOwner {
			return ErrParameterInvalid.With("an owner has at most %d bytes", MaxUploadOwner)
		}
	}
	return nil
}
