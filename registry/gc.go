package registry

import "context"

// Trash is the part of [Catalog] that takes deletes back. What was deleted stays
// for a while, unseen: no read, mount or list shows it. How long is the undo window
// of the store.
type Trash interface {
	// DeleteRepository removes a repository with everything in it. It is gone at
	// once, however much that is. [ErrNameUnknown] if there is no such repository.
	DeleteRepository(ctx context.Context, a Actor, repo Name) error

	// Deleted lists what can be restored in repo, or, if that is "", in all
	// repositories that a may read: whole repositories first. Page.After is
	// [Deleted.Cursor].
	Deleted(ctx context.Context, a Actor, repo Name, p Page[Cursor]) (List[Deleted], error)

	// Undelete brings back what r names: a tag with what it pointed to last; a
	// manifest with the tags that were removed with it, unless they exist again;
	// the whole repository if r is the zero value. What a manifest needs comes with
	// it. Errors: [ErrManifestUnknown] or [ErrNameUnknown] if there is no such thing
	// to restore, or not any more; [ErrPreconditionFailed] if the tag or the
	// repository exists; [ErrManifestBlobUnknown] if content is gone that it needs.
	Undelete(ctx context.Context, a Actor, repo Name, r Reference) error

	// Purge ends the undo window of what was deleted in repo, or in all repositories
	// if that is "", and of manifests that lost their tag. Nobody can restore it from
	// then on; the next collection removes it, but for what somebody was promised.
	Purge(ctx context.Context, a Actor, repo Name) error
}

// Cursor is a place in a list whose entries have no name. It is opaque.
type Cursor string

// Deleted is something that can be restored.
type Deleted struct {
	Cursor Cursor // where a page behind it begins
	Repo   Name
	Digest Digest // of the manifest, "" if it is the whole repository
	Tag    Tag    // if only this tag of it was deleted; "" if it was the manifest
	Tags   []Tag  // that were removed with the manifest
	Size   int64  // bytes of the manifest
	Actor  string // Actor.ID of who deleted it
	At     int64  // when, in microseconds since 1970
	Until  int64  // from then on it can't be restored
}

// Subject returns what was deleted as the commands name it: a repository, its :tag,
// or its @digest.
func (d Deleted) Subject() string {
	switch {
	case d.Tag != "":
		return string(d.Repo) + ":" + string(d.Tag)
	case d.Digest != "":
		return string(d.Repo) + "@" + d.Digest.String()
	}
	return string(d.Repo)
}

// Collector is the part of [Catalog] that removes what nothing needs. It works
// all the time, by itself; these are for whoever does not want to wait or wants to
// know. They are for administrators.
type Collector interface {
	// Collect removes what may go now, for some seconds at most. Call it again
	// while [Collection.More] is set. It is [ErrUnavailable] while other processes
	// collect.
	Collect(ctx context.Context, a Actor) (Collection, error)

	// Plan lists what will go if nobody needs it before its time has come. What
	// others of the list need is not in it yet. Page.After is [Doomed.Cursor]. A page
	// may be shorter than its limit.
	Plan(ctx context.Context, a Actor, p Page[Cursor]) (List[Doomed], error)
}

// Collection is what one call of [Collector.Collect] did.
type Collection struct {
	Reviews                               int64 // how often something was looked at
	Manifests, Links, Blobs, Repositories int64 // removed
	Bytes                                 int64 // of the blobs
	More                                  bool  // something is due still
	Next                                  int64 // when something is due next, in microseconds since 1970; 0: nothing is queued
}

// Kinds of [Doomed].
const (
	DoomedManifest   = "manifest"
	DoomedLink       = "link" // a blob of a repository; others may have it, too
	DoomedBlob       = "blob" // the bytes
	DoomedRepository = "repository"
)

// Doomed is something that will go.
type Doomed struct {
	Cursor Cursor // where a page behind it begins
	Kind   string
	Repo   Name   // "" for bytes, which belong to no repository
	Pool   Pool   // of the bytes or the repository
	Digest Digest // "" for a repository
	Size   int64  // bytes; 0 if that is not known
	At     int64  // when it is looked at, in microseconds since 1970
	Reason string // for people
}
