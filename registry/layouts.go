package registry

import (
	"context"
	"iter"
	"strings"
)

// layoutPrefix begins the locators of copies that are files of somebody else's
// image layout. No locator of a copy that we made has a colon.
const layoutPrefix = "layout:"

// LayoutLocator returns the locator of the copies of blobs that lie in the OCI
// image layout of repository repo (image-spec, image-layout.md), as zot keeps each
// of its repositories: a directory of that name below the pool's root. Such a copy
// is read in place and belongs to somebody else: Remove does nothing to it, and
// Copies does not list it.
func LayoutLocator(repo Name) Locator { return Locator(layoutPrefix + string(repo)) }

// Layout returns the repository in whose image layout the copy lies, false if it
// is a copy that we made.
func (l Locator) Layout() (Name, bool) {
	s, ok := strings.CutPrefix(string(l), layoutPrefix)
	if !ok {
		return "", false
	}
	n, err := ParseName(s)
	return n, err == nil
}

// LayoutReader is what [Blobs] can do besides when pools are directories: read the
// OCI image layouts that somebody else keeps there, one for each repository.
type LayoutReader interface {
	// Layouts yields the repositories of pool p that are image layouts, in any
	// order. Directories whose path is not a repository's name are left out.
	Layouts(ctx context.Context, p Pool) iter.Seq2[Name, error]

	// LayoutStamp returns a text that is another one once the layout's index has
	// changed, or [ErrNameUnknown] if there is no such layout. It is cheap.
	LayoutStamp(ctx context.Context, p Pool, repo Name) (string, error)

	// LayoutIndex returns the bytes of the layout's index.json, at most
	// [MaxLayoutIndex]. An index that is larger is [ErrTooLarge].
	LayoutIndex(ctx context.Context, p Pool, repo Name) ([]byte, error)

	// LayoutCopies returns those of the blobs that the layout has a file of. Only
	// their sizes were looked at.
	LayoutCopies(ctx context.Context, p Pool, repo Name, blobs []Digest) ([]LayoutCopy, error)
}

// Layouts is a [LayoutReader] that can also make what it reads its own.
type Layouts interface {
	LayoutReader

	// TakeOver makes the copy s, which lies in a layout, a copy of our own and
	// returns it. It is durable then. What s names stays as it is; on one file
	// system both are the same file. Repeating it returns the same copy.
	// [ErrBlobUnknown] if there is no such copy.
	TakeOver(ctx context.Context, s Stored) (Stored, error)

	// LayoutFiles yields the files of blobs that a layout has, in any order. A
	// layout that is not there has none.
	LayoutFiles(ctx context.Context, p Pool, repo Name) iter.Seq2[LayoutFile, error]

	// RemoveLayoutFiles removes files of blobs of a layout, those that are there. It
	// returns how many bytes of names are gone, without knowing whether they had
	// other names.
	RemoveLayoutFiles(ctx context.Context, p Pool, repo Name, blobs []Digest) (int64, error)

	// RemoveLayout removes a layout with all files of blobs in it, and returns the
	// same. What is not of a layout stays there. A layout that is not there is no
	// error.
	RemoveLayout(ctx context.Context, p Pool, repo Name) (int64, error)
}

// LayoutFile is a file of a layout that is named as a blob.
type LayoutFile struct {
	Digest Digest // what its name says
	Size   int64
}

// LayoutCopy is a blob's file in a layout.
type LayoutCopy struct {
	Stored
	Modified int64 // when the file was written, in microseconds since 1970
}

// MaxLayoutIndex is the size of the largest index.json that is read, in bytes.
const MaxLayoutIndex = 64 << 20
