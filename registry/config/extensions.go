package config

import (
	"errors"
	"time"
)

// Extensions holds the optional features. A block that is there is on, unless
// it says "enable": false; lint and events need "enable": true.
type Extensions struct {
	Search    *Search  `json:"search"`
	UI        *Feature `json:"ui"`
	Metrics   *Metrics `json:"metrics"`
	Scrub     *Scrub   `json:"scrub"`
	Lint      *Lint    `json:"lint"`
	Trust     *Trust   `json:"trust"`
	Events    *Events  `json:"events"`
	Gates     []Gate   `json:"gates"`
	Sync      *Sync    `json:"sync"`
	Mgmt      *Feature `json:"mgmt"`
	UserPrefs *Feature `json:"userprefs"`
	APIKey    *Feature `json:"apikey"`
}

// Feature can be turned off. Its methods may be called on nil.
type Feature struct {
	Enable *bool `json:"enable"`
}

// Enabled reports whether the block is there and not turned off.
func (f *Feature) Enabled() bool { return f != nil && (f.Enable == nil || *f.Enable) }

// Search is the GraphQL API and what feeds it.
type Search struct {
	Feature
	CVE *CVE `json:"cve"`
}

// Searched reports whether images can be searched. e may be nil.
func (e *Extensions) Searched() bool { return e != nil && e.Search != nil && e.Search.Enabled() }

// CVE turns on vulnerability scanning.
type CVE struct {
	UpdateInterval time.Duration `json:"updateInterval"`
	Trivy          *Trivy        `json:"trivy"`
}

// Scanning returns what the file says of vulnerability scanning, nil if it is off. It
// may be called on nil.
func (e *Extensions) Scanning() *CVE {
	if e == nil || e.Search == nil || !e.Search.Enabled() {
		return nil
	}
	return e.Search.CVE
}

func (c *CVE) setDefaults() { c.UpdateInterval = 2 * time.Hour }

// Trivy says where vulnerability data comes from.
type Trivy struct {
	DBRepository        string   `json:"dbRepository"`
	JavaDBRepository    string   `json:"javaDBRepository"`
	VulnSeveritySources []string `json:"vulnSeveritySources"`
	SBOM                *SBOM    `json:"sbom"`
	IgnoreFile          string   `json:"ignoreFile"`
}

func (t *Trivy) setDefaults() {
	t.DBRepository = "ghcr.io/aquasecurity/trivy-db"
	t.JavaDBRepository = "ghcr.io/aquasecurity/trivy-java-db"
	t.VulnSeveritySources = []string{"auto"}
}

// SBOM pushes a bill of materials as a referrer after a scan.
type SBOM struct {
	Enable bool   `json:"enable"`
	Format string `json:"format"`
}

func (s *SBOM) setDefaults() { s.Format = "spdx-json" }

// Metrics serves Prometheus metrics.
type Metrics struct {
	Feature
	Prometheus *Prometheus `json:"prometheus"`
}

// MetricsPath returns where metrics are served, "" if they are not. It may be
// called on nil.
func (e *Extensions) MetricsPath() string {
	switch {
	case e == nil || e.Metrics == nil || !e.Metrics.Enabled():
		return ""
	case e.Metrics.Prometheus == nil || e.Metrics.Prometheus.Path == "":
		return "/metrics"
	}
	return e.Metrics.Prometheus.Path
}

// Prometheus says where.
type Prometheus struct {
	Path string `json:"path"`
}

func (p *Prometheus) setDefaults() { p.Path = "/metrics" }

// Scrub re-hashes stored content.
type Scrub struct {
	Feature
	Interval time.Duration `json:"interval"`
	Rate     int           `json:"rate"` // MB a second, 0 is no limit
}

func (s *Scrub) setDefaults() { s.Interval, s.Rate = 24*time.Hour, 20 }

// Lint refuses images that lack annotations.
type Lint struct {
	Enable               *bool    `json:"enable"`
	MandatoryAnnotations []string `json:"mandatoryAnnotations"`
}

// Enabled reports whether lint is turned on in words.
func (l *Lint) Enabled() bool { return l != nil && l.Enable != nil && *l.Enable }

// Trust verifies signatures.
type Trust struct {
	Feature
	Cosign   bool      `json:"cosign"`
	Notation bool      `json:"notation"`
	Keyless  []Keyless `json:"keyless"`
}

// Keyless is an authority of signatures without a key.
type Keyless struct {
	Authority  string           `json:"authority"` // file
	Log        string           `json:"log"`       // file
	Identities []SignerIdentity `json:"identities"`
}

// SignerIdentity is who may have signed.
type SignerIdentity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Tools returns the tools whose signatures are verified. It may be called on nil.
func (t *Trust) Tools() (tools []string) {
	if t == nil || !t.Enabled() {
		return nil
	}
	if t.Cosign {
		tools = append(tools, "cosign")
	}
	if t.Notation {
		tools = append(tools, "notation")
	}
	return tools
}

// Gate says which images can't be pulled.
type Gate struct {
	Repositories []string `json:"repositories"` // globs
	Severity     string   `json:"severity"`
	OnlyFixed    bool     `json:"onlyFixed"`
	Allow        []string `json:"allow"`
	Unknown      string   `json:"unknown"`  // allow or deny
	SignedBy     string   `json:"signedBy"` // cosign, notation or any
	From         string   `json:"from"`     // see [ParseDay]
	Except       []string `json:"except"`   // users, and groups as group:NAME
}

func (g *Gate) setDefaults() { g.Unknown = "allow" }

// ParseDay reads a day, 2027-01-31, or a time, 2027-01-31T12:00:00Z.
func ParseDay(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, errors.New("must be a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z")
	}
	return t, nil
}

// Events tells others what happens to repositories.
type Events struct {
	Enable *bool  `json:"enable"`
	Sinks  []Sink `json:"sinks"`
}

// Enabled reports whether events are turned on in words.
func (e *Events) Enabled() bool { return e != nil && e.Enable != nil && *e.Enable }

// Sink receives events. Unknown keys in a sink are ignored with a warning.
type Sink struct {
	Type        string            `json:"type"` // http or nats
	Address     string            `json:"address"`
	Channel     string            `json:"channel"`
	Timeout     time.Duration     `json:"timeout"`
	Proxy       string            `json:"proxy"`
	Headers     map[string]Secret `json:"headers"`
	Credentials *SinkCredentials  `json:"credentials"`
	TLSConfig   *SinkTLS          `json:"tlsConfig"`
	Secret      Secret            `json:"secret"` // that signs events
}

func (s *Sink) setDefaults() { s.Timeout = 30 * time.Second }

// SinkCredentials authenticate us to a sink.
type SinkCredentials struct {
	Username string `json:"username"`
	Password Secret `json:"password"`
	File     string `json:"file"`
	Token    Secret `json:"token"`
}

// SinkTLS names the certificate files for a sink.
type SinkTLS struct {
	CACertFile string `json:"caCertFile"`
	CertFile   string `json:"certFile"`
	KeyFile    string `json:"keyFile"`
}
