package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// Audit is the part of [Catalog] that remembers who did what. Those who see requests
// write to it: gateways. The catalog itself adds an event for each tag that moves, see
// [TagMoved].
type Audit interface {
	// RecordAudit remembers events, at most [MaxAuditEvents]: all of them or none. One
	// that is remembered already is not a second time, so a call whose result is not
	// known can be made again. [ErrParameterInvalid] if one has no valid id.
	RecordAudit(ctx context.Context, events []AuditEvent) error

	// AuditLog lists what q asks for, the latest first. a must be an administrator.
	// Events that are older than the operator wants to keep are gone.
	AuditLog(ctx context.Context, a Actor, q AuditQuery) (List[AuditEvent], error)
}

// MaxAuditEvents is how many events [Audit.RecordAudit] takes, and
// [AuditQuery.Limit] may ask for; MaxAuditText how many bytes each of an event's texts
// has: what is longer is cut.
const (
	MaxAuditEvents = 1000
	MaxAuditText   = 1024
)

// AuditEvent says who did what, or tried to. No text of it is a secret.
type AuditEvent struct {
	// ID tells events apart, and orders them by time; see [NewAuditID].
	ID string
	// At is when it ended, in microseconds since 1970.
	At int64
	// Actor is the user, "" if anonymous. Of a login that failed: who it claimed to be.
	Actor string
	// Source is the address the request came from, without a port.
	Source string
	// Action is what was asked for, such as "manifest.put"; see docs/audit.md.
	Action string
	// Object is what it was asked of: a repository, "a/b:tag", "a/b@digest", a path.
	Object string
	// Status is the HTTP status of the answer, and Result what it means: "ok", or the
	// code of an error such as "DENIED".
	Status int
	Result string
	// RequestID is the id that the answer and the log lines have, too.
	RequestID string
}

// TagMoved is the action of the event that a catalog adds, in the transaction of the
// change, when a tag points to something else than before; see [TagMove]. Its Status is
// 0: it is of no request, which may have moved several.
const TagMoved = "tag.move"

// TagMove is the object of a [TagMoved] event: which tag, what it was, and what it is.
func TagMove(repo Name, t Tag, from, to Digest) string {
	return string(repo) + ":" + string(t) + " " + string(from) + " -> " + string(to)
}

// NewAuditID returns an id for an event at a time, in microseconds since 1970.
func NewAuditID(at int64) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return AuditIDAt(at) + hex.EncodeToString(random[:])
}

// AuditIDAt returns what is greater than the ids of all events before a time, and
// smaller than those from it on.
func AuditIDAt(at int64) string { return fmt.Sprintf("%016x", max(at, 0)) }

// ValidAuditID reports whether s is what [NewAuditID] returns.
func ValidAuditID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" && s[0] < '8'
}

// AuditQuery asks for events. What is empty or zero restricts nothing.
type AuditQuery struct {
	Actor        string
	Action       string // or what stands before its dot: "manifest"
	Object       string // or what it begins with, up to a slash, colon, @ or space
	Since, Until int64  // microseconds since 1970; Until is not included
	// Before is the id of the last event of the page before.
	Before string
	// Limit is how many events there may be, from 1 to [MaxAuditEvents].
	Limit int
}

// Check returns [ErrParameterInvalid] for what no query is.
func (q AuditQuery) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxAuditEvents:
		return ErrParameterInvalid.With("the limit is 1 to %d", MaxAuditEvents)
	case q.Before != "" && !ValidAuditID(q.Before):
		return ErrParameterInvalid.With("before is the id of an event")
	case len(q.Actor)+len(q.Action)+len(q.Object) > 3*MaxAuditText:
		return ErrParameterInvalid.With("a text is too long")
	}
	return nil
}

// Matches reports whether q asks for e, apart from the page.
func (q AuditQuery) Matches(e AuditEvent) bool {
	return (q.Actor == "" || q.Actor == e.Actor) &&
		(q.Action == "" || within(e.Action, q.Action, ".")) &&
		(q.Object == "" || within(e.Object, q.Object, "/:@ ")) &&
		e.At >= q.Since && (q.Until == 0 || e.At < q.Until)
}

// within reports whether s is whole, or goes on behind it with one of seps.
func within(s, whole, seps string) bool {
	rest, ok := strings.CutPrefix(s, whole)
	return ok && (rest == "" || strings.IndexByte(seps, rest[0]) >= 0)
}
