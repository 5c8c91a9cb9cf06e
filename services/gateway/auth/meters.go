package auth

import (
	"errors"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// outcomes of an attempt, as the metric names them.
const (
	accepted = iota
	wrong
	limited
	unavailable
	nOutcomes
)

// meters count attempts by the method that decided; "" is none of them.
type meters map[string]*[nOutcomes]*metrics.Counter

func newMeters(set *metrics.Set, methods []Method) meters {
	m := make(meters)
	if set == nil {
		return m
	}
	names := []string{""}
	for _, method := range methods {
		names = append(names, method.Name())
	}
	for _, name := range names {
		row := new([nOutcomes]*metrics.Counter)
		label := name
		if label == "" {
			label = "none"
		}
		for i, outcome := range [nOutcomes]string{"accepted", "refused", "limited", "unavailable"} {
			row[i] = set.Counter("berth_auth_attempts_total", "Credentials that were looked at, by the method that decided.", "method", label, "result", outcome)
		}
		m[name] = row
	}
	return m
}

func (m meters) count(method string, err error) {
	row := m[method]
	if row == nil {
		return
	}
	switch {
	case err == nil:
		row[accepted].Inc()
	case errors.Is(err, registry.ErrTooManyRequests):
		row[limited].Inc()
	case errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrDenied):
		row[wrong].Inc()
	default:
		row[unavailable].Inc()
	}
}
