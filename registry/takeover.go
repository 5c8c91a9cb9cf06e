package registry

import "context"

// TakeOvers is the part of [Catalog] about repositories of another registry that it
// has taken over, or will: files that are read in place, see [Layouts].
type TakeOvers interface {
	// TakeOvers lists them, ordered by name; of a service that does not look for
	// any, those that were taken over. [ErrUnavailable] until it has looked for all
	// of them. It is for administrators.
	TakeOvers(ctx context.Context, a Actor, p Page[Name]) (List[TakeOver], error)

	// FinishTakeOvers makes all their files our own and removes what is left of
	// them, in the background, after those that wait were taken over. There is no way
	// back. It is noted, so that it goes on after a restart. Asking again while it is
	// at work changes nothing. It is for administrators. [ErrUnsupported] if the
	// service can't.
	FinishTakeOvers(ctx context.Context, a Actor) error

	// TakeOverFinish tells how far that is, and what there is to do. It is for
	// administrators, and looks at all blobs.
	TakeOverFinish(ctx context.Context, a Actor) (TakeOverFinish, error)
}

// TakeOverFinish is how far [TakeOvers.FinishTakeOvers] is. Times are in microseconds
// since 1970, 0 if there is none.
type TakeOverFinish struct {
	Requested, Ended int64
	Blobs, Bytes     int64 // that became our own
	Repositories     int64 // whose directories are gone
	Kept             int64 // repositories of which files were kept
	Removed          int64 // bytes of the names that were removed
	// Problems are the first of ProblemCount reasons why something was kept, for
	// people.
	Problems     []string
	ProblemCount int64
	// Failure is why the last attempt ended early, "" if it did not. It is tried
	// again.
	Failure string
	// What lies in files of another registry still, by copies in use.
	ForeignBlobs, ForeignBytes int64
}

// The states of a [TakeOver].
const (
	TakeOverWaits    = "waits"    // it is taken over soon, or by the next request for it
	TakeOverBegun    = "begun"    // it was interrupted
	TakeOverChanged  = "changed"  // its index is another since: the new part waits
	TakeOverDone     = "taken"    // it was taken over; its files are used in place
	TakeOverFinishes = "finishes" // its files are being removed
)

// TakeOver is how far a repository of another registry is.
type TakeOver struct {
	Repo  Name
	Pool  Pool
	State string
	// Problems are the first of ProblemCount reasons why something was not taken
	// over, for people.
	Problems     []string
	ProblemCount int64
}
