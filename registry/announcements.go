package registry

import (
	"context"
	"encoding/json"
)

// Announcements is the part of [Catalog] that tells others what happens, as the
// config file's extensions.events says. What changes the catalog it announces by
// itself, in the transaction of the change.
type Announcements interface {
	// Announce adds what other services have seen, at most [MaxAnnouncements]: all of
	// it or nothing. What was announced already is not a second time. Where nobody
	// wants to be told it does nothing. [ErrParameterInvalid] if one has no valid ID or
	// is larger than [MaxAnnouncement].
	Announce(ctx context.Context, all []Announcement) error

	// Announced lists what was announced, the latest first. a must be an
	// administrator. What is older than a week and was told to everybody is gone.
	Announced(ctx context.Context, a Actor, q AnnouncementQuery) (List[Announcement], error)

	// Sinks lists who is told, and how far. a must be an administrator.
	Sinks(ctx context.Context, a Actor) ([]SinkStatus, error)
}

// MaxAnnouncements is how many announcements [Announcements.Announce] takes, and
// [AnnouncementQuery.Limit] may ask for; MaxAnnouncement how many bytes Data may have.
const (
	MaxAnnouncements = 1000
	MaxAnnouncement  = 64 << 10
)

// The types of announcements, zot's.
const (
	RepositoryCreated = "zotregistry.repository.created"
	ImageUpdated      = "zotregistry.image.updated"
	ImageDeleted      = "zotregistry.image.deleted"
	ImageLintFailed   = "zotregistry.image.lint_failed"
	ImageScanned      = "zotregistry.image.scanned"
)

// Announcement is something that happened to a repository. No text of it is a
// secret. Fields that say nothing for its Type are empty.
type Announcement struct {
	// ID tells announcements apart, and orders them by time; see [NewAuditID].
	ID   string
	Type string
	At   int64 // microseconds since 1970
	Repo Name
	// Reference is the tag or digest that was changed.
	Reference string
	Digest    Digest
	MediaType string
	// Actor is the user on whose behalf it happened, "" if anonymous or nobody.
	Actor string
	// Address, Method and Agent are those of the HTTP request, "" if there was none.
	Address, Method, Agent string
	// Data are further members of the event, as JSON by their names.
	Data map[string]json.RawMessage
}

// AnnouncementQuery asks for announcements. What is empty restricts nothing.
type AnnouncementQuery struct {
	Repo Name
	// Before is the ID of the last one of the page before.
	Before string
	// Limit is how many there may be, from 1 to [MaxAnnouncements].
	Limit int
}

// Check returns [ErrParameterInvalid] for what no query is.
func (q AnnouncementQuery) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxAnnouncements:
		return ErrParameterInvalid.With("the limit is 1 to %d", MaxAnnouncements)
	case q.Before != "" && !ValidAuditID(q.Before):
		return ErrParameterInvalid.With("before is the id of an event")
	}
	return nil
}

// CheckAnnouncements returns what [Announcements.Announce] says of what can't be.
func CheckAnnouncements(all []Announcement) error {
	if len(all) > MaxAnnouncements {
		return ErrTooLarge.With("at most %d events at a time", MaxAnnouncements)
	}
	for _, e := range all {
		size := 0
		for k, v := range e.Data {
			size += len(k) + len(v)
		}
		if !ValidAuditID(e.ID) || e.Type == "" || size > MaxAnnouncement {
			return ErrParameterInvalid.With("an event has no valid id, no type or too much data")
		}
	}
	return nil
}

// SinkStatus is how far a receiver of announcements was told.
type SinkStatus struct {
	Name      string // its type and address, without secrets
	Waiting   int64  // announcements it was not told yet; counted up to 100,000
	Delivered int64  // since it was there first
	Dropped   int64  // that it will never be told: it was away for too long, or refused them
	Failures  int64  // in a row
	Error     string // of the last attempt, "" if it was no failure
	At        int64  // of the last attempt, microseconds since 1970
}
