package gateway

import (
	"errors"
	"time"
)

// Config is what an operator can set. Start from [Defaults].
type Config struct {
	// Realm is shown to users who have to authenticate.
	Realm string
	// Host is how clients reach the registry, "host" or "host:port"; it appears
	// on the page at "/" only. "" means the Host of each request.
	Host string
	// DockerSchema2 allows pushes of docker's image manifests and lists. What is
	// stored already is served in any case.
	DockerSchema2 bool
	// AllowOrigin lists the origins whose scripts may read answers (CORS). Empty
	// means any: such scripts still have no credentials.
	AllowOrigin []string
	// ReadIdle and WriteIdle end a request whose client sends, or takes, nothing
	// for so long. Zero or less means no limit.
	ReadIdle, WriteIdle time.Duration
	// HeaderTimeout is how long a client may take to send a request's header.
	HeaderTimeout time.Duration
	// KeepAlive is how long an idle connection stays open.
	KeepAlive time.Duration
	// UploadsPerClient is how many requests with a body one client may be sending
	// at a time; see clientOf. 0 means any number.
	UploadsPerClient int
	// OpenUploads is how many upload sessions a client may have begun and not ended,
	// over all gateways; see clientOf. 0 means any number.
	OpenUploads int
	// Rates limit the requests of a client.
	Rates Rates
	// Connections is how many connections there may be, ConnectionsPerAddress how many
	// from one IPv4 address or IPv6 network of 64 bits. 0 means any number.
	Connections, ConnectionsPerAddress int
	// ManifestCache is how many bytes of manifests are kept in memory.
	ManifestCache int64
	// Fresh is for how long an answer of the catalog may be given again. 0: every
	// request asks it.
	Fresh time.Duration
	// Metrics is the path at which metrics can be read. "" means that they can't.
	Metrics string
	// Redirect says which blobs clients are sent to the object store for.
	Redirect Redirect
	// Version and Commit of the program, for the page at "/" and for mgmt.
	Version, Commit string
}

// Defaults returns the configuration of a gateway nobody configured.
func Defaults() Config {
	return Config{
		Realm:         "Authorization Required",
		DockerSchema2: true,
		ReadIdle:      time.Minute,
		WriteIdle:     time.Minute,
		HeaderTimeout: 10 * time.Second,
		KeepAlive:     2 * time.Minute,
		ManifestCache: 16 << 20,

		UploadsPerClient: 1000,
		OpenUploads:      1000,
	}
}

// settings are what of a configuration may change while the gateway runs. A request
// goes by one from its beginning to its end.
type settings struct {
	Config
	vary string // what answers depend on besides the URL
	page page
}

// SetConfig has requests that begin from now on go by cfg: its realm and host, media
// types, origins, idle times, redirects, the path of the metrics, and how many connections
// there may be. The rest of it has no effect; Rates, UploadsPerClient and OpenUploads are not set.
func (g *Gateway) SetConfig(cfg Config) {
	s := &settings{Config: cfg, vary: "Authorization"}
	if len(cfg.AllowOrigin) > 0 {
		s.vary += ", Origin"
	}
	s.page.init(cfg)
	g.settings.Store(s)
	g.conns.setLimits(cfg.Connections, cfg.ConnectionsPerAddress)
}

func (c Config) validate() error {
	if c.HeaderTimeout <= 0 || c.KeepAlive <= 0 {
		return errors.New("gateway: HeaderTimeout and KeepAlive must be positive")
	}
	if c.UploadsPerClient < 0 || c.OpenUploads < 0 {
		return errors.New("gateway: UploadsPerClient and OpenUploads must not be negative")
	}
	if c.ManifestCache < 0 {
		return errors.New("gateway: ManifestCache must not be negative")
	}
	return nil
}
