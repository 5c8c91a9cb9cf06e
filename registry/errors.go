package registry

import (
	"errors"
	"fmt"
	"time"
)

// Code identifies a failure that a client may be told about. The zero Code is
// [Internal].
type Code uint8

// The codes. Their OCI strings, HTTP statuses and texts are in the table below.
const (
	Internal Code = iota
	BlobUnknown
	UploadInvalid
	UploadUnknown
	DigestInvalid
	ManifestBlobUnknown
	ManifestInvalid
	ManifestUnknown
	MediaTypeUnsupported
	NameInvalid
	NameUnknown
	TagInvalid
	SizeInvalid
	PageInvalid
	ParameterInvalid
	Unauthorized
	Denied
	Unsupported
	EndpointUnknown
	InUse
	ManifestCollision
	PreconditionFailed
	RangeInvalid
	TooManyRanges
	TooLarge
	TooManyTags
	URLTooLong
	Stalled
	TooManyRequests
	Unavailable
	StorageFull
	Canceled
	numCodes
)

// Kind groups codes by what a caller can do about them. Package rpc turns a
// Kind into a gRPC code; nobody else needs it.
type Kind uint8

// The kinds.
const (
	Fault       Kind = iota // a bug or a broken machine: log it
	Invalid                 // the request is wrong and stays wrong
	NotFound                // nothing has that name
	Forbidden               // this actor may not
	Stranger                // nobody may without saying who they are
	Conflict                // the state of the store forbids it
	Outside                 // an offset or range lies outside the content
	Exhausted               // a limit is reached: less, or later
	Passing                 // try again soon
	NotProvided             // Berth does not do this
	Gone                    // the caller has cancelled or timed out
)

// codes is the one table of failures: the OCI error code of the
// distribution-spec ("Error Codes"), the HTTP status, what callers can do, and
// the text for people. The spec has no code for some failures; they borrow the
// nearest, as other registries do.
//
// Docker's engine takes an error without a detail whose message is word for word
// its own for one that passes, and sends the request again for most of a minute.
// So the texts of what stays refused are others; that of TooManyRequests is its.
var codes = [numCodes]struct {
	name string
	oci  string
	http int
	kind Kind
	text string
}{
	Internal:             {"Internal", "UNKNOWN", 500, Fault, "internal error"},
	BlobUnknown:          {"BlobUnknown", "BLOB_UNKNOWN", 404, NotFound, "blob unknown to registry"},
	UploadInvalid:        {"UploadInvalid", "BLOB_UPLOAD_INVALID", 400, Invalid, "blob upload invalid"},
	UploadUnknown:        {"UploadUnknown", "BLOB_UPLOAD_UNKNOWN", 404, NotFound, "blob upload unknown to registry"},
	DigestInvalid:        {"DigestInvalid", "DIGEST_INVALID", 400, Invalid, "provided digest did not match uploaded content, or is malformed"},
	ManifestBlobUnknown:  {"ManifestBlobUnknown", "MANIFEST_BLOB_UNKNOWN", 400, Invalid, "manifest references content unknown to the repository"},
	ManifestInvalid:      {"ManifestInvalid", "MANIFEST_INVALID", 400, Invalid, "manifest invalid"},
	ManifestUnknown:      {"ManifestUnknown", "MANIFEST_UNKNOWN", 404, NotFound, "manifest unknown to registry"},
	MediaTypeUnsupported: {"MediaTypeUnsupported", "MANIFEST_INVALID", 415, Invalid, "manifest media type not supported"},
	NameInvalid:          {"NameInvalid", "NAME_INVALID", 400, Invalid, "invalid repository name"},
	NameUnknown:          {"NameUnknown", "NAME_UNKNOWN", 404, NotFound, "repository name not known to this registry"},
	TagInvalid:           {"TagInvalid", "MANIFEST_INVALID", 400, Invalid, "a tag is at most 128 letters, digits, dots, dashes and underscores, the first not a dot or dash"},
	SizeInvalid:          {"SizeInvalid", "SIZE_INVALID", 400, Invalid, "provided length did not match content length"},
	PageInvalid:          {"PageInvalid", "UNSUPPORTED", 400, Invalid, "invalid paging parameter"},
	ParameterInvalid:     {"ParameterInvalid", "UNSUPPORTED", 400, Invalid, "invalid request parameter"},
	Unauthorized:         {"Unauthorized", "UNAUTHORIZED", 401, Stranger, "authentication required: no valid credentials were sent"},
	Denied:               {"Denied", "DENIED", 403, Forbidden, "requested access to the resource is denied to these credentials"},
	Unsupported:          {"Unsupported", "UNSUPPORTED", 405, NotProvided, "the operation is unsupported"},
	EndpointUnknown:      {"EndpointUnknown", "UNSUPPORTED", 404, NotFound, "no such endpoint"},
	InUse:                {"InUse", "DENIED", 405, Conflict, "content is referenced by a manifest of the repository"},
	ManifestCollision:    {"ManifestCollision", "MANIFEST_INVALID", 409, Conflict, "several tags point to the manifest: delete them one by one"},
	PreconditionFailed:   {"PreconditionFailed", "PRECONDITION_FAILED", 412, Conflict, "the tag does not have the required value"},
	RangeInvalid:         {"RangeInvalid", "RANGE_INVALID", 416, Outside, "range outside the content, or not at the upload's offset"},
	TooManyRanges:        {"TooManyRanges", "RANGE_INVALID", 400, Invalid, "too many ranges in one request"},
	TooLarge:             {"TooLarge", "SIZE_INVALID", 413, Exhausted, "content too large"},
	TooManyTags:          {"TooManyTags", "MANIFEST_INVALID", 414, Exhausted, "too many tags in one request"},
	URLTooLong:           {"URLTooLong", "SIZE_INVALID", 414, Invalid, "URL too long"},
	Stalled:              {"Stalled", "BLOB_UPLOAD_INVALID", 408, Gone, "the body stopped coming"},
	TooManyRequests:      {"TooManyRequests", "TOOMANYREQUESTS", 429, Exhausted, "too many requests"},
	Unavailable:          {"Unavailable", "UNAVAILABLE", 503, Passing, "service unavailable"},
	StorageFull:          {"StorageFull", "STORAGE_FULL", 507, Exhausted, "no space left"},
	Canceled:             {"Canceled", "UNKNOWN", 499, Gone, "request cancelled"},
}

// The sentinels: compare with errors.Is, specialize with [Error.With] or
// [Error.Because]. Never change one.
var (
	ErrInternal             = &Error{Code: Internal}
	ErrBlobUnknown          = &Error{Code: BlobUnknown}
	ErrUploadInvalid        = &Error{Code: UploadInvalid}
	ErrUploadUnknown        = &Error{Code: UploadUnknown}
	ErrDigestInvalid        = &Error{Code: DigestInvalid}
	ErrManifestBlobUnknown  = &Error{Code: ManifestBlobUnknown}
	ErrManifestInvalid      = &Error{Code: ManifestInvalid}
	ErrManifestUnknown      = &Error{Code: ManifestUnknown}
	ErrMediaTypeUnsupported = &Error{Code: MediaTypeUnsupported}
	ErrNameInvalid          = &Error{Code: NameInvalid}
	ErrNameUnknown          = &Error{Code: NameUnknown}
	ErrTagInvalid           = &Error{Code: TagInvalid}
	ErrSizeInvalid          = &Error{Code: SizeInvalid}
	ErrPageInvalid          = &Error{Code: PageInvalid}
	ErrParameterInvalid     = &Error{Code: ParameterInvalid}
	ErrUnauthorized         = &Error{Code: Unauthorized}
	ErrDenied               = &Error{Code: Denied}
	ErrUnsupported          = &Error{Code: Unsupported}
	ErrEndpointUnknown      = &Error{Code: EndpointUnknown}
	ErrInUse                = &Error{Code: InUse}
	ErrManifestCollision    = &Error{Code: ManifestCollision}
	ErrPreconditionFailed   = &Error{Code: PreconditionFailed}
	ErrRangeInvalid         = &Error{Code: RangeInvalid}
	ErrTooManyRanges        = &Error{Code: TooManyRanges}
	ErrTooLarge             = &Error{Code: TooLarge}
	ErrTooManyTags          = &Error{Code: TooManyTags}
	ErrURLTooLong           = &Error{Code: URLTooLong}
	ErrStalled              = &Error{Code: Stalled}
	ErrTooManyRequests      = &Error{Code: TooManyRequests}
	ErrUnavailable          = &Error{Code: Unavailable}
	ErrStorageFull          = &Error{Code: StorageFull}
	ErrCanceled             = &Error{Code: Canceled}
)

// String returns the Go name of the code, which is also its name on the wire
// between services.
func (c Code) String() string { return codes[c.known()].name }

// OCI returns the code's string in an OCI error response.
func (c Code) OCI() string { return codes[c.known()].oci }

// HTTP returns the code's HTTP status.
func (c Code) HTTP() int { return codes[c.known()].http }

// Kind returns what a caller can do about the code.
func (c Code) Kind() Kind { return codes[c.known()].kind }

// Text returns the code's message for people.
func (c Code) Text() string { return codes[c.known()].text }

func (c Code) known() Code {
	if c >= numCodes {
		return Internal
	}
	return c
}

// Codes returns all codes, for tests and adapters that walk the table.
func Codes() []Code {
	all := make([]Code, numCodes)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// Error is a failure a client may be told about. It survives the way through
// gRPC, except for Err.
type Error struct {
	Code Code
	// Message replaces the code's text. It is shown to the client.
	Message string
	// Detail is anything encoding/json can write, nil if there is none. It is
	// shown to the client.
	Detail any
	// RetryAfter is how long the caller is asked to wait before it tries again, 0 if
	// nobody has said. It goes over the wire in milliseconds.
	RetryAfter time.Duration
	// Err is the cause. It is for the log only.
	Err error
}

// Error returns the message and the cause, for the log.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Text(), e.Err)
	}
	return e.Text()
}

// Text returns what a client is told.
func (e *Error) Text() string {
	if e.Message != "" {
		return e.Message
	}
	return e.Code.Text()
}

// Is reports whether target is an Error of the same code, so that errors.Is
// holds whether the error was made here or came over the wire.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// With returns a copy of e with a message for the client.
func (e *Error) With(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// Detailed returns a copy of e with a detail for the client.
func (e *Error) Detailed(detail any) *Error {
	c := *e
	c.Detail = detail
	return &c
}

// After returns a copy of e that asks to wait before the next attempt.
func (e *Error) After(wait time.Duration) *Error {
	c := *e
	c.RetryAfter = max(0, wait)
	return &c
}

// RetryAfterSeconds returns what a Retry-After header says of e (RFC 9110 §10.2.3):
// RetryAfter in whole seconds, rounded up, and otherwise if nobody has said.
func (e *Error) RetryAfterSeconds(otherwise int) int {
	if e.RetryAfter <= 0 {
		return otherwise
	}
	return int((e.RetryAfter + time.Second - 1) / time.Second)
}

// Because returns a copy of e with a cause for the log.
func (e *Error) Because(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

// AsError returns the [Error] in err's chain. An error that has none is
// [Internal] with err as its cause; nil is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return ErrInternal.Because(err)
}
