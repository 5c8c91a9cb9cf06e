package registry

import (
	"context"
	"time"
)

// Mirror fetches from upstream registries what the local store lacks. What it
// fetched it stores like any client, so that everything it has brought is read
// from [Catalog] and [Blobs].
//
// It decides nothing about rights: who asks for a manifest or a blob has been
// allowed by the [Catalog] to read the repository before. The methods of
// [MirrorControl] are for administrators, and whoever passes them on decides who
// that is.
//
// An upstream that fails is [ErrUnavailable], one that wants less is
// [ErrTooManyRequests], one that refuses our credentials is [ErrDenied]: never
// "unknown", which only an upstream's 404 is.
type Mirror interface {
	Puller
	PushRules
	Forwarding
	MirrorControl
	Checker
}

// Puller is the part of [Mirror] that requests to read need.
type Puller interface {
	// Route returns the local name of repository repo of the upstream registry
	// that clients call upstream: host or host:port, docker.io for Docker Hub by
	// any of its names (the ns parameter, distribution-spec "Registry Proxying").
	// [ErrNameUnknown] if no rule covers it; nothing is asked then.
	Route(ctx context.Context, upstream string, repo Name) (Name, error)

	// Resolve brings the manifest that ref names upstream into the catalog, or
	// confirms local, the digest that the catalog has for it ("" if none). When it
	// returns no error the catalog has the manifest, and if ref is a tag, the tag
	// points to it. [ErrNameUnknown] if no rule covers repo: there is only what is
	// local.
	//
	// What is local is never withheld: if the upstream can't be asked, or does not
	// answer within a second, local is confirmed with a warning, and an upstream
	// that is known to be down is not asked at all.
	Resolve(ctx context.Context, a Actor, repo Name, ref Reference, local Digest) (Resolution, error)

	// Stat returns the size of a blob of repo that the catalog does not know.
	// [ErrBlobUnknown] if the upstream has none, [ErrNameUnknown] if no rule covers
	// repo.
	Stat(ctx context.Context, a Actor, repo Name, d Digest) (size int64, err error)

	// Open reads a blob that is being fetched, or starts to fetch it, with the
	// errors of Stat. Bytes come as they arrive; the last ones of the blob come
	// when all have been compared with the digest, and content that turns out
	// wrong ends with [ErrUnavailable] instead. The fetch goes on when the reader
	// leaves. The caller closes the content.
	Open(ctx context.Context, a Actor, repo Name, d Digest, r Range) (Content, error)

	// FetchReferrers brings the manifests whose subject is d into the catalog, as
	// far as the upstream can be asked now; what is local stays listed whatever it
	// says. [ErrNameUnknown] if no rule covers repo.
	FetchReferrers(ctx context.Context, a Actor, repo Name, d Digest) error

	// Served tells of bytes of blobs that clients got because they are here, at most
	// [MaxServed] at a time: see [MirrorRule.Saved]. What no rule fetches counts for
	// nothing.
	Served(ctx context.Context, all []Served) error
}

// MaxServed is of how many repositories [Puller.Served] is told at a time.
const MaxServed = 1000

// Served is what clients got of a repository without the upstream.
type Served struct {
	Repository Name
	Bytes      int64
}

// CheckServed returns what [Puller.Served] says of what can't be.
func CheckServed(all []Served) error {
	if len(all) > MaxServed {
		return ErrTooLarge.With("at most %d repositories at a time", MaxServed)
	}
	for _, s := range all {
		if s.Bytes < 0 {
			return ErrParameterInvalid.With("fewer than no bytes were served")
		}
	}
	return nil
}

// Resolution is what [Puller.Resolve] found.
type Resolution struct {
	// Digest of the manifest, which the catalog has.
	Digest Digest
	// Warning tells the client that this may be out of date, and why. "" if not.
	Warning string
}

// PushRules is the part of [Mirror] that requests to push need.
type PushRules interface {
	// Covers says whether a rule covers repo, and what a push there means. It asks
	// nobody.
	Covers(ctx context.Context, repo Name) (Coverage, error)

	// Claim notes that repo is pushed to here: from then on nothing is fetched into
	// it. No error if that was so before.
	Claim(ctx context.Context, a Actor, repo Name) error
}

// Coverage is what the rules say of a repository.
type Coverage struct {
	Rule string // its name, "" if none covers the repository
	// Push says what a push into a covered repository means.
	Push PushRule
	// Claimed says that the repository was pushed to: nothing is fetched into it.
	Claimed bool
	// Forward says that a rule passes pushes on: they are to be announced.
	Forward bool
}

// PushRule says what a push into a mirrored repository means.
type PushRule string

// The rules for pushes.
const (
	// PushAllow takes the push and stops fetching into the repository.
	PushAllow PushRule = "allow"
	// PushDeny refuses the push.
	PushDeny PushRule = "deny"
	// PushForward takes the push and passes it on to the upstream, at once or when it
	// can be reached. The repository goes on being a mirror.
	PushForward PushRule = "forward"
)

// MirrorControl is the part of [Mirror] for people.
type MirrorControl interface {
	// MirrorRules lists the rules in the order they are looked at, with what became
	// of them.
	MirrorRules(ctx context.Context) ([]MirrorRule, error)

	// Fills lists the blobs that are being fetched, ordered by digest.
	Fills(ctx context.Context) ([]Fill, error)

	// Presence lists the tags of repo in order, and how much of each is here; also
	// of a repository that no rule covers. Page.Limit is at most 1,000, and a page
	// may be shorter although there is more. [ErrNameUnknown] if there is no such
	// repository.
	Presence(ctx context.Context, repo Name, p Page[Tag]) (List[TagPresence], error)

	// Explain tells in sentences what the rules say of repo: what a pull would ask
	// whom for, and what a push means.
	Explain(ctx context.Context, repo Name) ([]string, error)

	// Examine asks the upstream of a rule a question that changes nothing, and
	// tells how each step went: the name, the connection, the credentials, the
	// budget. [ErrNameUnknown] if there is no such rule.
	Examine(ctx context.Context, rule string) ([]MirrorCheck, error)

	// Trigger starts what the schedule of a rule does, now. [ErrNameUnknown] if
	// there is no such rule, [ErrUnsupported] if it has no schedule.
	Trigger(ctx context.Context, rule string) error

	// Pause stops a rule, or with [AllRules] all that there are, from asking its
	// upstream, or lets it again: what is local is served meanwhile. It holds over
	// restarts. [ErrNameUnknown] if there is no such rule.
	Pause(ctx context.Context, rule string, paused bool) error

	// Forget drops what is remembered of repo: when its tags were compared, what is
	// missing upstream, and that it was pushed to. What is stored stays.
	Forget(ctx context.Context, repo Name) error
}

// AllRules stands for the names of all rules.
const AllRules = "*"

// MirrorRule is a rule and what became of it.
type MirrorRule struct {
	Name      string        `json:"name"`
	URLs      []string      `json:"urls"`
	OnDemand  bool          `json:"onDemand"`
	Interval  time.Duration `json:"interval,omitempty"` // 0: no schedule
	Push      PushRule      `json:"push"`
	Paused    bool          `json:"paused,omitempty"`
	Running   bool          `json:"running,omitempty"`
	Down      bool          `json:"down,omitempty"`      // no request is made now: too many have failed
	LastRun   int64         `json:"lastRun,omitempty"`   // end of the last scheduled copy, microseconds since 1970
	LastError string        `json:"lastError,omitempty"` // of the last scheduled copy, or else the last request
	// Done and Total are tags of the copy that runs, or of the last one.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Requests to the upstream, and bytes of content it sent, since the start.
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
	// Budget is how many pulls the upstream says are left, -1 if it does not say.
	Budget int64 `json:"budget"`
	// Scope are globs (package glob) of local names: the rule covers no other. Not
	// all of them need be covered.
	Scope []string `json:"scope"`
	Rate  int64    `json:"rate,omitempty"` // bytes a second that it may take now, 0: no limit
	Speed int64    `json:"speed"`          // bytes a second that came in the last seconds
	// MonthBytes came in this month (UTC), also before a restart; MonthLimit is how
	// many may, 0: no limit.
	MonthBytes int64  `json:"monthBytes"`
	MonthLimit int64  `json:"monthLimit,omitempty"`
	Waits      string `json:"waits,omitempty"` // why scheduled copies wait
	// Hits are requests for tags that were answered with what was here, since the
	// start; Misses are those that had to wait for the upstream.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Saved are bytes of blobs that clients got without being fetched for them, since
	// the start: what was here, and what was being fetched for others.
	Saved int64 `json:"saved"`
	// Prune says what becomes of tags that are gone upstream: "" for nothing, on or
	// dry-run. Pruned is how many were removed since the start.
	Prune  string `json:"prune,omitempty"`
	Pruned int64  `json:"pruned,omitempty"`
}

// Fill is a blob that is being fetched.
type Fill struct {
	Digest     Digest `json:"digest"`
	Repository Name   `json:"repository"` // that asked first
	Rule       string `json:"rule"`
	Have       int64  `json:"have"`
	Size       int64  `json:"size"` // -1: not known yet
	Readers    int64  `json:"readers"`
	Since      int64  `json:"since"` // microseconds since 1970
	Error      string `json:"error,omitempty"`
	// Priority says whom it is for: a client that waits, what is pinned, or else a
	// schedule. Those behind wait for those before them.
	Priority string `json:"priority"`
	Speed    int64  `json:"speed"` // bytes a second that came in the last seconds
	ETA      int64  `json:"eta"`   // seconds until it is here at that speed, -1: not known
}

// The values of [Fill.Priority].
const (
	PriorityClient   = "client"
	PriorityPinned   = "pinned"
	PrioritySchedule = "schedule"
)

// Presence is how much of something is here.
type Presence string

// The kinds of presence. Content that no mirror can fetch, such as layers with URLs
// of their own, is not looked at.
const (
	Complete Presence = "complete"
	Partial  Presence = "partial"
	Missing  Presence = "missing" // nothing but, perhaps, its name
)

// TagPresence is how much of a tag's image is here.
type TagPresence struct {
	Tag    Tag      `json:"tag"`
	Digest Digest   `json:"digest"`
	State  Presence `json:"state"` // complete if all platforms are
	Have   int64    `json:"have"`  // bytes of blobs that are here
	Size   int64    `json:"size"`  // bytes of all blobs of the manifests that are here
	// Platforms are those of an index, or the image itself.
	Platforms []PlatformPresence `json:"platforms"`
}

// PlatformPresence is how much of an image is here.
type PlatformPresence struct {
	Platform string   `json:"platform"` // os/architecture[/variant], "" if nothing says
	Digest   Digest   `json:"digest"`
	State    Presence `json:"state"`
	Have     int64    `json:"have"` // bytes of blobs
	Size     int64    `json:"size"` // 0 if the manifest is not here
}

// MirrorCheck is a step of [MirrorControl.Examine].
type MirrorCheck struct {
	Step string `json:"step"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}
