package registry

import "context"

// Pulls is the part of [Catalog] that keeps who has pulled what.
type Pulls interface {
	// CountPulls adds to the statistics of manifests, at most [MaxPulls] entries at
	// a time. What is not there any more is left out. It is for gateways, which
	// report what they have sent some seconds ago: no pull waits for it, and a
	// crash may lose, or a lost answer count twice, those seconds.
	CountPulls(ctx context.Context, pulls []Pull) error

	// PullsOf lists the statistics of manifest d of repo, by the tag it was asked
	// for with, first those by digest. A manifest nobody has pulled has none.
	// Page.After is a [Pull.Key].
	PullsOf(ctx context.Context, a Actor, repo Name, d Digest, p Page[Tag]) (List[Pull], error)
}

// MaxPulls is how many entries one [Pulls.CountPulls] may have.
const MaxPulls = 1000

// Pull is how often a manifest was pulled by one name, or is to be added to that.
type Pull struct {
	Repository Name
	Digest     Digest
	Tag        Tag    // that it was asked for with, "" if by digest
	Actor      string // Actor.ID of the last, "" if anonymous
	At         int64  // of the last, microseconds since 1970
	Count      int64  // more than 0
}

// Key returns the entry's place in a list: its tag, or "-", which is no tag and
// comes before all of them.
func (p Pull) Key() Tag {
	if p.Tag == "" {
		return "-"
	}
	return p.Tag
}

// Retention is the part of [Catalog] that removes tags nobody needs any more, by
// the policies of storage.retention.
type Retention interface {
	// ExplainRetention says what the policies say of repo now: of each tag, ordered
	// by name, and behind them of each manifest that no tag and no index needs,
	// ordered by digest; of only if that is not empty. Page.After is a tag or a
	// digest. It changes nothing.
	ExplainRetention(ctx context.Context, a Actor, repo Name, only Reference, p Page[string]) (List[RetentionDecision], error)

	// ApplyRetention removes tags of repo that the policies do not keep, as soon as
	// the next run would; nothing if storage.retention.dryRun is set.
	ApplyRetention(ctx context.Context, a Actor, repo Name) (RetentionReport, error)
}

// RetentionDecision is what the retention policies say of a tag or of an
// untagged manifest.
type RetentionDecision struct {
	Tag    Tag // "" for an untagged manifest
	Digest Digest
	Keep   bool
	// Policy is the policy that applies, counted from 1 as the config file lists
	// them; 0 if none does. Entry is its entry in keepTags, likewise.
	Policy, Entry int
	// Rule keeps it: "pulledWithin", "pushedWithin", "mostRecentlyPulledCount",
	// "mostRecentlyPushedCount", "patterns" for an entry without rules. "" if none
	// of these does.
	Rule string
	// Reason is for people.
	Reason string
	// Pushed and Pulled are when it was last, microseconds since 1970; 0 if not
	// known, or never.
	Pushed, Pulled int64
}

// Key returns the decision's place in a list: its tag, or else its digest.
func (d RetentionDecision) Key() string {
	if d.Tag != "" {
		return string(d.Tag)
	}
	return d.Digest.String()
}

// RetentionReport is what [Retention.ApplyRetention] has done.
type RetentionReport struct {
	DryRun  bool  // Deleted are still there
	Kept    int64 // tags
	Deleted int64 // tags
}

// Rollbacks is the part of [Catalog] that takes back what became of a tag.
type Rollbacks interface {
	// RollbackTag lets tag t point to a digest again that is in its history, whose
	// manifest must still be there: [ErrManifestUnknown] if it is not. That is a
	// new entry of the history, which it returns.
	RollbackTag(ctx context.Context, a Actor, repo Name, t Tag, to Digest, c Condition) (TagChange, error)
}
