package syncer

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
)

// defaultTimeout is the limit of one image.
const defaultTimeout = 3 * time.Hour

// transport returns what makes the requests of a rule. The hosts of its own URLs are
// the only ones that may have private addresses; redirects lead to none.
func transport(c *config.SyncRegistry, rules outbound.Rules, p daemon.Process) (http.RoundTripper, error) {
	client, err := outbound.New(outbound.Options{
		Purpose: "sync", Rules: rules, Named: c.URLs, PlainHTTP: anyPlain(c.URLs),
		TLS:    outbound.TLS{CertDir: c.CertDir, SkipVerify: !c.TLSVerify},
		Agent:  "berth/" + p.Version,
		Header: c.ResponseHeaderTimeout,
		HTTP2:  !c.DisableHTTP2,
		Log:    p.Log, Metrics: p.Metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("the client for upstreams: %w", err)
	}
	return client.HTTP().Transport, nil
}

// anyPlain reports whether one of the URLs has no TLS.
func anyPlain(urls []string) bool {
	for _, u := range urls {
		if strings.HasPrefix(u, "http:") {
			return true
		}
	}
	return false
}

// helperClient returns what makes clients for servers that hand out credentials.
func helperClient(rules outbound.Rules, p daemon.Process) func(named ...string) (*http.Client, error) {
	return func(named ...string) (*http.Client, error) {
		client, err := outbound.New(outbound.Options{
			Purpose: "sync-credentials", Rules: rules, Named: named, PlainHTTP: anyPlain(named), MaxBody: 1 << 20, Redirects: -1,
			Agent: "berth/" + p.Version, Log: p.Log, Metrics: p.Metrics,
		})
		if err != nil {
			return nil, fmt.Errorf("the client for credentials: %w", err)
		}
		return client.HTTP(), nil
	}
}
