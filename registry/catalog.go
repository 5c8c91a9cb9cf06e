package registry

import "context"

// Catalog owns names: repositories, tags with their history, manifests,
// referrers, and which repository may read which blob.
//
// Every method that takes an [Actor] first decides, on the repository's name
// alone, whether the actor may do this. An anonymous actor who may not gets
// [ErrUnauthorized], a known one [ErrDenied], before anything is read: what is
// unreadable and what is missing look the same. Only then may it return
// [ErrNameUnknown], [ErrManifestUnknown] or [ErrBlobUnknown].
//
// Durability and visibility: a change is durable and visible to every reader,
// in every process, when its method returns without error. A change whose
// method returned an error happened as a whole or not at all.
//
// A repository exists from its first link or manifest on.
type Catalog interface {
	Repositories
	Tags
	Manifests
	Links
	Keyring
	Exporter
	Trash
	Collector
	Scrubbing
	Checker
	Pulls
	Retention
	Rollbacks
	Limits
	OpenUploads
	Identities
	Access
	Cache
	Audit
	Announcements
	TrustStore
	TakeOvers
	Search
}

// Page asks for a part of a list.
type Page[T ~string] struct {
	// After is the last entry of the page before, "" for the first page. It
	// need not exist.
	After T
	// Limit is how many entries the answer may have at most, from 1 to
	// [MaxPage]. An implementation may return fewer.
	Limit int
}

// MaxPage is the largest [Page.Limit].
const MaxPage = 10_000

// List is a page of a list in ascending byte order.
type List[T any] struct {
	Items []T
	More  bool // there are entries behind the last of Items
}

// Repositories is the part of [Catalog] about repositories as a whole.
type Repositories interface {
	// Repositories lists the repositories that a may read.
	Repositories(ctx context.Context, a Actor, p Page[Name]) (List[Name], error)

	// Admit says whether a may upload blobs to repo, which need not exist, and
	// returns the pool its bytes belong to.
	Admit(ctx context.Context, a Actor, repo Name) (Pool, error)
}

// Tags is the part of [Catalog] that reads tags.
type Tags interface {
	// Tags lists the tags of repo, or returns [ErrNameUnknown].
	Tags(ctx context.Context, a Actor, repo Name, p Page[Tag]) (List[Tag], error)

	// TagHistory lists what became of a tag, the latest change first, at most
	// limit entries (1 to 1,000). A tag that never was has no history.
	TagHistory(ctx context.Context, a Actor, repo Name, t Tag, limit int) ([]TagChange, error)
}

// TagChange is one entry of a tag's history.
type TagChange struct {
	At     int64  // microseconds since 1970, never decreasing within a tag
	Actor  string // Actor.ID, "" if anonymous
	Digest Digest // what the tag points to from then on, "" if it was removed
}

// Manifest is a stored manifest.
type Manifest struct {
	Digest    Digest
	MediaType string // as it was pushed, without parameters
	Size      int64  // bytes
	// Bytes are exactly those that were pushed. They are shared: never change
	// them. nil if the query did not want them or the caller has them.
	Bytes []byte
}

// ManifestQuery asks for a manifest.
type ManifestQuery struct {
	Ref Reference
	// Have is a manifest the caller has the bytes of: if Ref resolves to it, the
	// answer comes without Bytes. "" if none.
	Have Digest
	// NoBytes asks for an answer without Bytes.
	NoBytes bool
}

// Condition makes a change of a tag depend on the value it has. The zero value
// is no condition. If it does not hold, the change is [ErrPreconditionFailed].
type Condition struct {
	Match  Digest // the tag must point to this digest (If-Match, RFC 9110 §13.1.1)
	Absent bool   // there must be no such tag (If-None-Match: *, §13.1.2)
}

// ManifestPut is a manifest to store and the tags to point to it.
type ManifestPut struct {
	Digest    Digest // of Bytes, verified by the Catalog
	MediaType string // without parameters
	Bytes     []byte // at most [MaxManifest]; not kept or changed by the callee
	Tags      []Tag  // may be empty; at most [MaxTagsPerPut]
	If        Condition
	// ByDigest says that the actor named the manifest by its digest, and so wants to
	// create it besides setting Tags.
	ByDigest bool
}

// MaxTagsPerPut is how many tags one manifest PUT may set.
const MaxTagsPerPut = 46

// Manifests is the part of [Catalog] that handles manifests.
type Manifests interface {
	// Manifest returns what q names: [ErrManifestUnknown] if the repository has
	// no such tag or digest, [ErrNameUnknown] if there is no such repository.
	Manifest(ctx context.Context, a Actor, repo Name, q ManifestQuery) (Manifest, error)

	// PutManifest stores m, what it refers to, and its tags: all or nothing. A tag that
	// exists needs [ActUpdate], one that does not [ActCreate], and so does a manifest
	// ByDigest or without tags.
	// Storing what is stored already changes nothing and is no error. It returns
	// the parsed manifest. Errors: [ErrDigestInvalid] if m.Bytes does not hash
	// to m.Digest, those of [ParseManifest], and [ErrManifestBlobUnknown] with
	// the missing digests as detail if content is missing in the repository, or
	// [ErrManifestInvalid] if it is there with another size than m.Bytes says
	// (unless storage.allowWrongSizes is set); content with a foreign layer's media type, the subject, and (if
	// storage.allowSparse is set) everything may be missing. If m.If is set it
	// must hold for each tag.
	PutManifest(ctx context.Context, a Actor, repo Name, m ManifestPut) (ManifestInfo, error)

	// DeleteTag removes a tag; the manifest stays. [ErrManifestUnknown] if there
	// is no such tag.
	DeleteTag(ctx context.Context, a Actor, repo Name, t Tag, c Condition) error

	// DeleteManifest removes a manifest and all tags that point to it, under
	// whichever digests the repository has its bytes: what is withdrawn must not
	// stay readable by its other name. [ErrManifestUnknown] if there is none;
	// [ErrInUse] while an index in the repository lists it; [ErrManifestCollision] if
	// several tags point to it and a has [ActDetectCollision].
	DeleteManifest(ctx context.Context, a Actor, repo Name, d Digest) error

	// Referrers lists the manifests of repo whose subject is d, ordered by
	// digest; of the artifact type given, if that is not "". Page.After is a
	// digest. A repository or subject nobody knows has none.
	Referrers(ctx context.Context, a Actor, repo Name, d Digest, artifactType string, p Page[Digest]) (List[Descriptor], error)
}

// Blob is content that a repository may read.
type Blob struct {
	Stored
	// Unverified says that the copy was not compared with its digest for longer than
	// the operator wants: it is to be read with [Range.Verify].
	Unverified bool
	// Inline is the content itself, if it is a manifest: those are not in the
	// blobstore, and Stored has no Locator then. Shared: never change it.
	Inline []byte
}

// Links is the part of [Catalog] that says which repository knows which blob.
type Links interface {
	// Blob returns the content d of repo: a linked blob, or a manifest's bytes.
	// [ErrBlobUnknown] if repo has neither, [ErrNameUnknown] if there is no such
	// repository. It is a promise: the blob can be used by a manifest for at
	// least the lease time from now.
	Blob(ctx context.Context, a Actor, repo Name, d Digest) (Blob, error)

	// Link makes d known in repo, and returns the copy of it that is used from
	// now on: s, or one that was there before, in which case s will be removed.
	// An s that can't be a copy is [ErrBlobUnknown].
	Link(ctx context.Context, a Actor, repo Name, s Stored) (Stored, error)

	// Mount makes known in repo what from knows as d; if from is "", what any
	// repository knows that a may read (of the first thousand, if more know it). If that can't be it returns
	// [ErrBlobUnknown], also when a may not read from.
	Mount(ctx context.Context, a Actor, repo Name, d Digest, from Name) (Stored, error)

	// Unlink makes d unknown in repo. [ErrBlobUnknown] if it is not known,
	// [ErrInUse] while a manifest of the repository refers to it or d is a
	// manifest itself.
	Unlink(ctx context.Context, a Actor, repo Name, d Digest) error
}

// Keyring is the part of [Catalog] that keeps the keys gateways share.
type Keyring interface {
	// UploadKeys returns the keys that authenticate upload tokens, the one to
	// sign with first; there is at least one. The answer may be kept until a
	// token names a key that is not in it.
	UploadKeys(ctx context.Context) ([]Key, error)
}

// Key is a secret with a public name.
type Key struct {
	ID     string
	Secret []byte // 32 bytes
}
