package upstream

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// DefaultAnswer is how long a host may take to begin an answer if nobody says, and
// silentAnswer how long at most when it has just let somebody wait in vain.
const (
	DefaultAnswer = 30 * time.Second
	silentAnswer  = 2 * time.Second
)

var errNoAnswer = errors.New("the upstream registry does not answer in time")

// patience returns how long the next answer may take to begin. A host that hangs costs
// one client in a while the full time, not each.
func (h *Host) patience() time.Duration {
	if h.hurry() {
		return min(h.answer, silentAnswer)
	}
	return h.answer
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// answerLimit ends a request which is not answered in time. It comes with the context,
// under limitKey.
type answerLimit struct {
	patience time.Duration // for each step

	mu    sync.Mutex // guards all below
	timer *time.Timer
	over  bool // there is an answer
}

// restart gives the host d from now on.
func (l *answerLimit) restart(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.timer.Reset(d)
	}
}

// stop gives it all the time it wants, until restart if the limit is not over.
func (l *answerLimit) stop(over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.over = l.over || over
}

// flowing is the body of a request: as long as the host takes it, it need not answer.
type flowing struct {
	io.ReadCloser
	limit *answerLimit
	each  time.Duration
}

func (f *flowing) Read(p []byte) (int, error) {
	f.limit.stop(false) // this is us
	defer f.limit.restart(f.each)
	return f.ReadCloser.Read(p)
}

type limitKey struct{}
