package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// judge says what the status of an answer means.
func (h *Host) judge(resp *http.Response, c call) error {
	h.readBudget(resp.Header)
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		h.Succeeded()
		return nil
	case s == http.StatusNotFound:
		h.Succeeded()
		return registry.ErrManifestUnknown.With("the upstream registry %s does not have it", h.base.Host)
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		h.Succeeded()
		return registry.ErrDenied.With("the upstream registry %s refuses access to %s: it does not exist there, or needs other credentials", h.base.Host, c.repo)
	case s == http.StatusTooManyRequests:
		wait := retryAfter(resp.Header, h.now())
		h.Hold(wait, registry.ErrTooManyRequests)
		return registry.ErrTooManyRequests.With("the upstream registry %s allows no more requests for %v", h.base.Host, wait.Round(time.Second)).After(wait)
	case s == http.StatusRequestedRangeNotSatisfiable:
		h.Succeeded()
		return errRange
	case c.push && s >= 400 && s < 500 && s != http.StatusRequestTimeout:
		h.Succeeded()
		return h.refusal(resp)
	default:
		h.Failed()
		err := registry.ErrUnavailable.With("the upstream registry %s answers with status %d", h.base.Host, s)
		if s == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" {
			wait := retryAfter(resp.Header, h.now())
			h.Hold(min(wait, probeEvery), registry.ErrUnavailable)
			err = err.After(wait)
		}
		return err
	}
}

// ErrWrong says that what came is not the content that was asked for.
var ErrWrong = errors.New("other content than its digest says")

// errRange says that the upstream has no bytes from there on.
var errRange = errors.New("the upstream registry has no such range")

// readBudget notes what the registry says is left. Docker Hub's ratelimit-remaining
// has the window in seconds behind it: "57;w=21600".
func (h *Host) readBudget(header http.Header) {
	for _, key := range []string{"Ratelimit-Remaining", "X-Ratelimit-Remaining"} {
		text, more, _ := strings.Cut(header.Get(key), ";")
		left, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil || left < 0 {
			continue
		}
		b := &budget{left: left}
		if _, w, ok := strings.Cut(more, "w="); ok {
			w, _, _ = strings.Cut(w, ";")
			if n, err := strconv.ParseInt(strings.TrimSpace(w), 10, 32); err == nil && n > 0 {
				b.until = h.now().Add(time.Duration(n) * time.Second)
			}
		}
		h.budget.Store(b)
		return
	}
}

// Budget returns how many pulls the host says are left, -1 if it does not say, or
// has said it so long ago that it counts anew.
func (h *Host) Budget() int64 {
	b := h.budget.Load()
	if b == nil || !b.until.IsZero() && !h.now().Before(b.until) {
		return -1
	}
	return b.left
}

// budget is what a host has said of the pulls that it allows.
type budget struct {
	left  int64
	until time.Time // when it counts anew, zero if it does not say
}
