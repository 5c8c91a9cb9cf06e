package registry

import "context"

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
