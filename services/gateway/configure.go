package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/certs"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/gate"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// Configured returns a unit of process p that serves d as a config file says. It
// listens when it returns.
func Configured(ctx context.Context, c *config.Config, d Deps, p daemon.Process) (_ daemon.Unit, err error) {
	h, log := c.HTTP, p.Log
	d.Ready, d.Metrics, d.Traces = p.Ready.Ready, p.Metrics, p.Traces
	cfg := configOf(c, p.Version)
	var g *Gateway // made below: what is made before asks it later
	says := policy{func() *gate.Gate { return g.gate.Load() }}
	if c.Extensions.Searched() {
		closed := func() bool { return !g.auth.Load().Open() }
		if d.Search, err = newSearch(d, closed, says.Signatures, log); err != nil {
			return daemon.Unit{}, err
		}
	}
	if d.NewREST != nil {
		if d.REST, err = d.NewREST(says); err != nil {
			return daemon.Unit{}, err
		}
	}
	if d.Identity, err = identity.Configured(c, d.Catalog, p); err != nil {
		return daemon.Unit{}, err
	}
	if d.Identity != nil {
		defer func() {
			if err != nil {
				_ = d.Identity.Close() // nothing to lose
			}
		}()
	}
	d.Methods.Identity = methodsOf(d.Identity, h)
	chain, err := auth.Configured(ctx, c, d.Methods, p)
	if err != nil {
		return daemon.Unit{}, err
	}
	defer func() {
		if err != nil {
			_ = chain.Close() // what was read only
		}
	}()
	d.Auth = chain
	var audit io.Closer
	if d.Audit, audit, err = auditlog.Open(c.Log.Audit, p.Rotated); err != nil {
		return daemon.Unit{}, fmt.Errorf("log.audit: %w", err)
	}
	defer func() {
		if err != nil {
			_ = audit.Close() // nothing was written
		}
	}()
	if g, err = New(cfg, d, log); err != nil {
		return daemon.Unit{}, err
	}
	g.mgmtAuth.Store(mgmtAuth(h.Auth))
	g.SetLint(lintOf(c))
	ga, err := gateOf(c, d)
	if err != nil {
		return daemon.Unit{}, err
	}
	g.SetGate(ga)
	g.follow(d, p)
	learning, stopLearning := context.WithCancel(context.WithoutCancel(ctx))
	var learner sync.WaitGroup
	if d.Mirror != nil {
		learner.Go(func() { g.learnCoverage(learning) })
	}
	endLearning := func() { stopLearning(); learner.Wait() }
	defer func() {
		if err != nil {
			endLearning()
		}
	}()
	srv := g.Server()
	scheme := "http"
	if h.Encrypted() {
		pair, err := certs.LoadPair(h.TLS.Cert, h.TLS.Key, log)
		if err != nil {
			return daemon.Unit{}, fmt.Errorf("http.tls: %w", err)
		}
		srv.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Current(), nil },
		}
		if err := acceptCertificates(srv.TLSConfig, h.TLS.CACert, log); err != nil {
			return daemon.Unit{}, fmt.Errorf("http.tls: %w", err)
		}
		daemon.CertificateExpiry(p.Metrics, "http.tls", func() time.Time { return pair.Current().Leaf.NotAfter })
		scheme = "https"
	}
	network, address := h.Endpoint()
	l, err := g.conns.listen(ctx, network, address)
	if err != nil {
		return daemon.Unit{}, err
	}
	// The port may be one we did not choose.
	log.Info("listening for HTTP", "network", network, "scheme", scheme, "address", l.Addr().String())
	unit := daemon.HTTP("gateway", l, srv)
	unit.Abandon = func() error { endLearning(); return l.Close() }
	stop := unit.Stop
	unit.Stop = func(ctx context.Context) error {
		endLearning()
		err := errors.Join(stop(ctx), g.auth.Load().Close())
		if who := g.who.Load(); who != nil {
			err = errors.Join(err, who.Close())
		}
		g.Close()
		return errors.Join(err, audit.Close())
	}
	return unit, nil
}

// configOf returns what a config file says of the gateway.
func configOf(c *config.Config, version string) Config {
	h := c.HTTP
	cfg := Defaults()
	cfg.Version, cfg.Commit = version, version // as git describes it
	cfg.Metrics = c.Extensions.MetricsPath()
	cfg.DockerSchema2 = h.AcceptsDocker()
	cfg.ReadIdle, cfg.WriteIdle = h.ReadTimeout, h.WriteTimeout
	cfg.UploadsPerClient, cfg.OpenUploads = h.UploadsPerClient, h.OpenUploads
	cfg.Rates = ratesOf(h)
	cfg.Connections, cfg.ConnectionsPerAddress = connectionsOf(h)
	cfg.Fresh = fresh(c)
	cfg.Redirect = redirectOf(c.Storage)
	if h.Realm != "" {
		cfg.Realm = h.Realm
	}
	if u, err := url.Parse(h.ExternalURL); err == nil {
		cfg.Host = u.Host
	}
	for origin := range strings.SplitSeq(h.AllowOrigin, ",") {
		// Browsers send none with a slash at its end (RFC 6454 §6.1).
		if origin = strings.TrimSuffix(strings.TrimSpace(origin), "/"); origin == "*" {
			cfg.AllowOrigin = nil
			break
		} else if origin != "" {
			cfg.AllowOrigin = append(cfg.AllowOrigin, origin)
		}
	}
	return cfg
}

// methodsOf returns the methods of authentication that a service has, nil if there is
// none.
func methodsOf(who *identity.Service, h config.HTTP) *auth.Identity {
	if who == nil || who.Only() {
		return nil
	}
	return &auth.Identity{
		APIKey: who.Basic(), Token: who.Bearer(), Session: who.Session(), Admit: who.Admit, Realm: identity.Realm(h), Service: identity.Audience(h),
	}
}

// acceptCertificates has clients asked for a certificate, which they need not have:
// they may have a password. One that is shown must be good for clients and signed
// by an authority of the file as it is then. Sessions are not resumed, because who
// resumes one shows no certificate, and its authority may be gone by then (compare
// CVE-2025-68121).
func acceptCertificates(c *tls.Config, file string, log *slog.Logger) error {
	if file == "" {
		return nil
	}
	authorities, err := certs.LoadAuthorities(file, log)
	if err != nil {
		return err
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	c.SessionTicketsDisabled = true
	c.ClientCAs = authorities.Current()
	base := c.Clone()
	base.NextProtos = []string{"h2", "http/1.1"} // else net/http's addition is lost
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = authorities.Current()
		return now, nil
	}
	return nil
}

// fresh returns for how long answers of the catalog are given again: half of what
// the file allows, because the catalog has the other half for itself. One in this
// process is asked each time.
func fresh(c *config.Config) time.Duration {
	if len(c.Services.Metadata.Address) == 0 {
		return 0
	}
	return c.Storage.Metadata.MaxStaleness / 2
}

// redirectOf returns what the storage section says about redirects.
func redirectOf(s config.Storage) Redirect {
	r := Redirect{MinSize: int64(s.Redirect.MinSize), ExceptAgents: s.Redirect.ExceptUserAgents}
	if s.RedirectBlobURL {
		r.Pools = append(r.Pools, "")
	}
	for name, sub := range s.SubPaths {
		if sub.RedirectBlobURL {
			r.Pools = append(r.Pools, registry.Pool(name))
		}
	}
	r.Networks, r.ExceptNetworks = prefixes(s.Redirect.Networks), prefixes(s.Redirect.ExceptNetworks)
	return r
}

// prefixes parses networks that the config package has checked.
func prefixes(texts []string) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(texts))
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			all = append(all, p)
		}
	}
	return all
}
