package registry

import "context"

// Scrubbing is the part of [Catalog] that looks after stored bytes: each copy of a
// blob, and each manifest, is read again and compared with its digest before the
// interval of the config file has passed since it was the last time.
//
// A copy that is damaged, or is not there, is not served and does not count as
// stored: [Links.Blob] and [Links.Mount] return [ErrBlobUnknown], so that clients
// push the blob again, and [Links.Link] takes what they push in its place. What
// needs the blob stays.
type Scrubbing interface {
	// ReportReads tells what reads with [Range].Verify have found out. Where a copy
	// is said to be damaged the Catalog looks itself, soon, and until then every
	// read of it is to be verified.
	ReportReads(ctx context.Context, reads []ReadReport) error

	// ScrubStatus tells how far scrubbing has come.
	ScrubStatus(ctx context.Context, a Actor) (ScrubStatus, error)

	// StartScrub asks that everything is looked at again, beginning with what was
	// not for the longest time. It returns at once; a request while one is being
	// carried out makes it begin again.
	StartScrub(ctx context.Context, a Actor) error

	// Damages lists what is damaged now, at most limit (1 to 1,000) entries behind
	// after (nil: from the start): blobs by pool and digest, then manifests by
	// repository and digest.
	Damages(ctx context.Context, a Actor, after *Damage, limit int) ([]Damage, error)
}

// ReadReport is what a read of a copy has found out.
type ReadReport struct {
	Stored
	// Damaged says that bytes are not what they should be, or that the copy was not
	// there. Otherwise all of them were compared, and are.
	Damaged bool
}

// MaxReports is how many reports a call of ReportReads may have.
const MaxReports = 1000

// Damage is stored content that is not what its digest says.
type Damage struct {
	// Repo is the repository of a damaged manifest, "" for a blob.
	Repo   Name
	Digest Digest
	Pool   Pool   // of a blob
	Size   int64  // bytes
	Found  int64  // when it was found first, microseconds since 1970
	Reason string // for people
	// Repos are repositories that have the blob, at most [MaxDamageRepos] of them,
	// for whoever can fetch it again: to heal it is to store its bytes again
	// ([Uploads]) and to link them in one of these ([Links.Link],
	// [Cache.LinkCached]). nil for a manifest, which heals by being put again.
	Repos []Name
}

// MaxDamageRepos is how many repositories a [Damage] names at most.
const MaxDamageRepos = 100

// ScrubStatus is how far scrubbing has come. Times are microseconds since 1970, 0
// for never; counts are since the store was made.
type ScrubStatus struct {
	Interval  int64 // microseconds between two looks at the same content, 0: none is planned
	Rate      int64 // bytes a second that are read at most, 0: no limit
	Requested int64 // when StartScrub was called last
	Oldest    int64 // since when all blobs were looked at
	Waiting   bool  // something is due
	Blobs     int64 // copies looked at
	Bytes     int64 // bytes of them
	Manifests int64 // manifests looked at
	Damaged   int64 // blobs and manifests that are damaged now
}

// Healer gets content that was found to be damaged from elsewhere.
type Healer interface {
	// Heal is told of a blob that is damaged, and of repositories that have it, at
	// most 100. To heal it is to store its bytes again ([Uploads]) and to link them in
	// one of these ([Links.Link]). Content that it has no source for is no error. It
	// is called by one goroutine, again after each look that finds the blob still
	// damaged.
	Heal(ctx context.Context, d Damage, repos []Name) error
}
