package registry

import "context"

// Forwarding is the part of [Mirror] that passes pushes on to other registries: at
// once, or when they can be reached again. Rules with [PushForward] say which.
type Forwarding interface {
	// Announce notes a push into repo that is about to be made, so that whatever ends
	// after the catalog has it, it is not forgotten. Each rule passes pushes on in the
	// order of these calls. The receipt is for Settle, "" if no rule forwards the push.
	// [ErrUnsupported] if the push has come from here, by others that forward, too.
	Announce(ctx context.Context, a Actor, repo Name, p AnnouncedPush) (receipt string, err error)

	// Settle says what became of a push that was announced. Without it the catalog is
	// asked, after a minute; that a push was stored later counts all the same, unless its
	// tag was pushed since.
	Settle(ctx context.Context, receipt string, stored bool) error

	// Forwards lists pushes that are to be passed on, and what became of those that
	// were, the latest of each tag: ordered by number, from the one behind q.After on.
	Forwards(ctx context.Context, q ForwardQuery) ([]Forward, error)

	// Reforward tries again at once what a rule has to pass on, and what the other
	// registry has refused. [ErrNameUnknown] if there is no such rule, [ErrUnsupported]
	// if it forwards nothing.
	Reforward(ctx context.Context, rule string) error

	// DropForward gives a push up that waits to be passed on, or is being passed on: that
	// ends, and those behind it are next. [Forward.Error] says then whether it may have
	// arrived. How one ended is forgotten. What is stored here stays. [ErrNameUnknown] if
	// there is no push of that number.
	DropForward(ctx context.Context, number int64) error
}

// AnnouncedPush is a push that is about to be made.
type AnnouncedPush struct {
	Tags   []Tag  // that will point to Digest; none: it is pushed by its digest
	Digest Digest // of the manifest
	// Via lists the installations that have forwarded it, as [ViaHeader] has it.
	Via string
	// Deletion says that the tags are to be removed, or the manifest with all its tags if
	// there are none; Digest is then of no use for tags.
	Deletion bool
}

// ViaHeader is the header of a manifest's PUT that names the installations which have
// forwarded it, the first one first, with commas between them.
const ViaHeader = "Berth-Forwarded-By"

// MaxVia is how long a [ViaHeader] may be, which also ends circles of many.
const MaxVia = 512

// ForwardState says how far a push has come.
type ForwardState string

// The states. All but the first two are ends.
const (
	ForwardAnnounced ForwardState = "announced" // it is not known yet whether it was stored
	ForwardWaiting   ForwardState = "waiting"   // it will be sent, or is being sent
	ForwardDelivered ForwardState = "delivered" // the other registry has it
	ForwardKept      ForwardState = "kept"      // the other registry has something else, which the rule keeps
	ForwardRefused   ForwardState = "refused"   // the other registry does not want it
	ForwardDropped   ForwardState = "dropped"   // it is not here any more
)

// ForwardQuery asks for a part of the list.
type ForwardQuery struct {
	Rule string // "": all
	// Repository is the only one to tell of, "" for all.
	Repository Name
	Open       bool  // only what has no end yet
	After      int64 // a number
	Limit      int   // 1 to 1,000
}

// Forward is a push that is to be passed on, or was.
type Forward struct {
	Number     int64        `json:"number"` // growing in the order of pushes
	Rule       string       `json:"rule"`
	Repository Name         `json:"repository"`
	Tag        Tag          `json:"tag,omitempty"` // "": by its digest
	Digest     Digest       `json:"digest"`
	Deletion   bool         `json:"deletion,omitempty"` // it was removed, not pushed
	Actor      string       `json:"actor,omitempty"`    // who pushed
	Upstream   string       `json:"upstream"`           // where it goes
	State      ForwardState `json:"state"`
	Attempts   int64        `json:"attempts"`
	Error      string       `json:"error,omitempty"`
	Since      int64        `json:"since"`   // of the push, microseconds since 1970
	Changed    int64        `json:"changed"` // of the state
}
