package daemon

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// Process is what the parts of a process share. Only Log is always there; for
// the others nil means that nobody wants to know.
type Process struct {
	Program string // its name
	Version string
	Log     *slog.Logger
	Metrics *metrics.Set
	// Traces begins spans where requests enter the process.
	Traces *tracing.Tracer
	// Ready is what the process says to load balancers.
	Ready *Readiness
	// Live tells when the configuration changes. Parts subscribe to their keys when
	// they are built.
	Live *config.Live
	// Rotated calls what is to be called when logs were rotated and SIGHUP asks to
	// open them again.
	Rotated *Rotation
}

// Rotation is a list of logs that can be opened again. Its methods may be called by
// many goroutines, and on nil.
type Rotation struct {
	mu   sync.Mutex
	logs []func() error
}

// Add adds a log.
func (r *Rotation) Add(reopen func() error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, reopen)
}

// Reopen opens all logs again.
func (r *Rotation) Reopen() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, reopen := range r.logs {
		errs = append(errs, reopen())
	}
	return errors.Join(errs...)
}

// CertificateExpiry tells when a certificate that the process presents expires.
// name is the key of the config file it comes from.
func CertificateExpiry(m *metrics.Set, name string, expires func() time.Time) {
	m.Func(metrics.GaugeKind, "berth_certificate_expiry_timestamp_seconds", "When a certificate that is in use expires, in seconds since 1970.",
		func() float64 { return float64(expires().Unix()) }, "name", name)
}

// For returns p for the part of that name: its log lines say so.
func (p Process) For(service string) Process {
	p.Log = p.Log.With("service", service)
	return p
}
