package gateway

import (
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// How many events of requests that were passed on to a token server are recorded in a
// minute if nobody has shown who they are: of one client, and of all.
const (
	strangersEach = 30
	strangersAll  = 120
)

// strangers bounds the audit events that anybody who can reach the registry may cause:
// guesses that it passes on to the token server of somebody else, which limits them
// or does not. What is left out is counted, and recorded as one event.
type strangers struct {
	mu     sync.Mutex
	minute time.Time
	each   map[string]int // by clientOf
	all    int
	left   int64
}

// admit reports whether an event of a client is recorded, and how many were left out
// in the minute that has ended.
func (s *strangers) admit(client string, now time.Time) (record bool, left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(s.minute) {
		left = s.left
		s.minute, s.each, s.all, s.left = minute, make(map[string]int), 0, 0
	}
	if s.all >= strangersAll || s.each[client] >= strangersEach {
		s.left++
		return false, left
	}
	s.all++
	s.each[client]++
	return true, left
}

// relayed reports whether the event of a request that was passed on is recorded. Those
// of users whom the token server knows always are.
func (g *Gateway) relayed(x *exchange, now time.Time, user string, err error) bool {
	if err == nil && user != "" {
		return true
	}
	record, left := g.strangers.admit(clientOf(registry.Actor{}, x.r.RemoteAddr), now)
	if left > 0 {
		at := now.UnixMicro()
		g.auditor.record(registry.AuditEvent{
			ID: registry.NewAuditID(at), At: at, Action: "token.relay", Object: fmt.Sprintf("%d more that failed or were anonymous", left),
			Status: registry.TooManyRequests.HTTP(), Result: registry.TooManyRequests.OCI(),
		}, nil)
	}
	return record
}
