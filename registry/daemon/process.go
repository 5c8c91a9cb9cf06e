package daemon

import (
	"log/slog"
	"time"

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
