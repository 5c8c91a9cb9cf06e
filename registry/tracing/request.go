package tracing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"
)

// Request is the context of a request that has an id. It is made where the
// request enters the installation and may be part of a larger value, so that it
// costs no allocation of its own.
type Request struct {
	context.Context
	ID string
}

type requestKey struct{}

// Value implements [context.Context].
func (r *Request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// RequestID returns the id of the request that ctx belongs to, "" if it has none.
func RequestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r.ID
	}
	return ""
}

// maxID is the length in bytes of the longest id that is taken from outside.
const maxID = 64

// ValidID reports whether an id that came from outside can be taken over: it is
// not empty, not long, and made of letters, digits, dots, dashes and underscores.
func ValidID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, c := range []byte(id) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// IDs makes ids of requests that differ from those of any other process. Its
// methods may be called by many goroutines.
type IDs struct {
	prefix string
	n      atomic.Uint64
}

// NewIDs returns a source of ids.
func NewIDs() *IDs {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return &IDs{prefix: hex.EncodeToString(b[:]) + "-"}
}

// Next returns an id that was not there before.
func (s *IDs) Next() string {
	var room [40]byte
	b := append(room[:0], s.prefix...)
	return string(strconv.AppendUint(b, s.n.Add(1), 36))
}
