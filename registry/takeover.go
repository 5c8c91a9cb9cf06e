package registry

import "context"

// TakeOvers is the part of [Catalog] about repositories of another registry that it
// has taken over, or will: files that are read in place, see [Layouts].
type TakeOvers interface {
	// TakeOvers lists them, ordered by name; of a service that does not look for
	// any, those that were taken over. It is for administrators.
	TakeOvers(ctx context.Context, a Actor, p Page[Name]) (List[TakeOver], error)
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
