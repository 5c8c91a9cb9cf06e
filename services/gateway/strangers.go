package gateway

import (
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// How many events of who has not shown who they are are recorded in a minute: of one
// client, and of all. Wrong passwords have bounds of their own, above those that say how
// many of a client are looked at.
const (
	strangersEach = 30
	strangersAll  = 120
	guessesEach   = 250
	guessesAll    = 1000
)

// strangers bounds the audit events that anybody who can reach the registry may cause:
// changes that are refused, wrong credentials, tokens for nobody, and guesses that are
// passed on to the token server of somebody else. Without that a stranger fills the
// catalog, or has events of others lost while it is busy. What is left out is counted, and
// recorded as one event.
type strangers struct {
	most struct{ each, all int } // in a minute

	mu     sync.Mutex // guards the rest
	minute time.Time
	each   map[string]int // by clientOf
	all    int
	left   int64
}

func (s *strangers) init(each, all int) { s.most.each, s.most.all = each, all }

// admit reports whether an event of a client is recorded, and how many were left out
// in the minute that has ended.
func (s *strangers) admit(client string, now time.Time) (record bool, left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(s.minute) {
		left = s.left
		s.minute, s.each, s.all, s.left = minute, make(map[string]int), 0, 0
	}
	if s.all >= s.most.all || s.each[client] >= s.most.each {
		s.left++
		return false, left
	}
	s.all++
	s.each[client]++
	return true, left
}

// recorded reports whether an event of a request is recorded, of which nobody knows whose
// it is. It says what was left out before.
func (g *Gateway) recorded(s *strangers, x *exchange, now time.Time) bool {
	record, left := s.admit(clientOf(registry.Actor{}, x.r.RemoteAddr), now)
	if left > 0 {
		at := now.UnixMicro()
		g.auditor.record(registry.AuditEvent{
			ID: registry.NewAuditID(at), At: at, Action: "unrecorded", Object: fmt.Sprintf("%d more of who has not shown who they are", left),
			Status: registry.TooManyRequests.HTTP(), Result: registry.TooManyRequests.OCI(),
		}, nil)
	}
	return record
}
