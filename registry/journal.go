package registry

import (
	"context"
	"strings"
)

// MaxJournalObject is the size of the largest [Journal] object, in bytes.
const MaxJournalObject = MaxManifest + 1<<19

// Journal is the part of [Blobs] that keeps small named objects beside the blobs
// of the default pool: what a catalog needs to be made again from the store
// itself. Objects never change. They are stored with a checksum, and durable as
// blobs are.
type Journal interface {
	// AppendJournal adds an object, or returns [ErrPreconditionFailed] if there is
	// one of that name with other content. Names have 1 to 120 lower case letters,
	// digits, dots and dashes, and begin with a letter or digit.
	AppendJournal(ctx context.Context, name string, content []byte) error

	// ReadJournal returns the content of an object: [ErrBlobUnknown] if there is
	// none, [ErrDigestInvalid] if it is damaged.
	ReadJournal(ctx context.Context, name string) ([]byte, error)

	// ListJournal lists the names behind after in byte order, at most limit (1 to
	// 1,000) of them. A list shorter than limit is the last.
	ListJournal(ctx context.Context, after string, limit int) ([]string, error)

	// RemoveJournal removes an object. One that is not there is no error.
	RemoveJournal(ctx context.Context, name string) error
}

// IsJournalName reports whether an object of a [Journal] may have that name.
func IsJournalName(name string) bool {
	if len(name) == 0 || len(name) > 120 || strings.Trim(name[:1], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// Exporter is the part of [Catalog] that hands all of it out.
type Exporter interface {
	// Export calls part with one part after another of a copy of the catalog as it
	// was at one moment between call and return, secrets included. What is in it is
	// for an implementation of the same kind to read. part must not keep what it is
	// given. A catalog that can't is [ErrUnsupported].
	Export(ctx context.Context, part func([]byte) error) error
}
