package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

var (
	// ErrTooLarge is the error of an answer with a larger body than allowed.
	ErrTooLarge = errors.New("the answer is larger than allowed")
	// ErrStalled is the error of a transfer in which nothing moves.
	ErrStalled = errors.New("the transfer stands still")
)

// received is the body of an answer: at most left bytes, and none of its reads may
// take longer than idle.
type received struct {
	body   io.ReadCloser
	left   int64 // negative: any number
	idle   time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watchReceive(body io.ReadCloser, limit int64, idle time.Duration, cancel context.CancelCauseFunc) *received {
	if limit <= 0 {
		limit = -1
	}
	r := &received{body: body, left: limit, idle: idle, cancel: cancel}
	r.timer = time.AfterFunc(idle, func() { cancel(ErrStalled) })
	r.timer.Stop()
	return r
}

func (r *received) Read(p []byte) (int, error) {
	if r.left == 0 {
		// Whether it ends here tells one byte more.
		var one [1]byte
		n, err := r.read(one[:])
		if n > 0 {
			return 0, ErrTooLarge
		}
		return 0, err
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.read(p)
	if r.left > 0 {
		r.left -= int64(n)
	}
	return n, err
}

func (r *received) read(p []byte) (int, error) {
	r.timer.Reset(r.idle)
	n, err := r.body.Read(p)
	if !r.timer.Stop() && err != nil {
		err = ErrStalled
	}
	return n, err
}

func (r *received) Close() error {
	r.timer.Stop()
	err := r.body.Close()
	r.cancel(nil)
	return err
}

// sent is the body of a request. Whoever sends it must come for more in time; how
// long the source takes is not his matter.
type sent struct {
	body io.ReadCloser
	idle time.Duration

	mu    sync.Mutex // guards the rest
	timer *time.Timer
	done  bool
}

func watchSend(body io.ReadCloser, idle time.Duration, cancel context.CancelCauseFunc) *sent {
	s := &sent{body: body, idle: idle}
	s.timer = time.AfterFunc(idle, func() { cancel(ErrStalled) })
	s.timer.Stop() // connecting has limits of its own
	return s
}

func (s *sent) Read(p []byte) (int, error) {
	s.timer.Stop()
	n, err := s.body.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.done = true
	}
	if !s.done {
		s.timer.Reset(s.idle)
	}
	return n, err
}

func (s *sent) Close() error {
	s.mu.Lock()
	s.done = true
	s.timer.Stop()
	s.mu.Unlock()
	return s.body.Close()
}

// ReadAll returns the body of an answer, which may have up to limit bytes, and
// closes it. It is for documents that are small by nature: tokens, lists, keys.
func ReadAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, ErrTooLarge
	}
	return b, nil
}
