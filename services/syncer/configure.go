package syncer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// OpenDB opens the syncer's database as the storage section of a config file says.
type OpenDB func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error)

// Configured is a [Service] with the database it was opened on.
type Configured struct {
	*Service
	db *sqldb.DB
}

// Close ends the syncer's work and closes its database.
func (c *Configured) Close() error { return errors.Join(c.Service.Close(), c.db.Close()) }

// Wanted reports whether a config file has rules to follow.
func Wanted(cfg *config.Config) bool {
	e := cfg.Extensions
	return e != nil && e.Sync != nil && e.Sync.Enabled() && len(e.Sync.Registries) > 0
}

// OpenConfigured opens the syncer that a config file describes. drivers are those
// that the program has in it, by the name in storage.metadata.driver.
func OpenConfigured(ctx context.Context, cfg *config.Config, drivers map[string]OpenDB, blobs Blobs, catalog Catalog, fatal func(error), p daemon.Process) (*Configured, error) {
	o, err := optionsOf(cfg, p)
	if err != nil {
		return nil, err
	}
	open := drivers[cfg.Storage.Metadata.Driver]
	if open == nil {
		return nil, fmt.Errorf("storage.metadata.driver: the syncer of this program has no driver %q, only %s", cfg.Storage.Metadata.Driver, strings.Join(slices.Sorted(maps.Keys(drivers)), ", "))
	}
	db, err := open(ctx, cfg.Storage, fatal, p.Log)
	if err != nil {
		return nil, err
	}
	s, err := New(ctx, db, blobs, catalog, o)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Configured{s, db}, nil
}

// optionsOf returns what a config file says of mirroring.
func optionsOf(cfg *config.Config, p daemon.Process) (Options, error) {
	sync := cfg.Extensions.Sync
	o := Options{Metrics: p.Metrics, Log: p.Log, Holder: "syncer"}
	switch {
	case sync.DownloadDir != "":
		o.Staging = filepath.Join(sync.DownloadDir, ".berth-sync")
	case cfg.Storage.RootDirectory != "":
		o.Staging = filepath.Join(cfg.Storage.RootDirectory, ".berth", "sync")
	default:
		return o, errors.New("extensions.sync.downloadDir: needed where there is no storage.rootDirectory: what is being fetched is kept there")
	}
	rules, err := cfg.Outbound.Rules()
	if err != nil {
		return o, fmt.Errorf("outbound.allow: %w", err)
	}
	for i := range sync.Registries {
		r, err := ruleOf(&sync.Registries[i], sync.CredentialsFile, rules, p)
		if err != nil {
			return o, fmt.Errorf("extensions.sync.registries[%d]: %w", i, err)
		}
		o.Rules = append(o.Rules, r)
	}
	return o, nil
}

func ruleOf(c *config.SyncRegistry, credentialsFile string, rules outbound.Rules, p daemon.Process) (*Rule, error) {
	if len(c.URLs) == 0 {
		return nil, errors.New("urls: needed")
	}
	if c.CredentialHelper != "" {
		return nil, fmt.Errorf("credentialHelper: %s is not built yet", c.CredentialHelper)
	}
	r := &Rule{
		Host: upstream.HostOf(c.URLs[0]), OnDemand: c.OnDemand, Interval: c.PollInterval, Fresh: cmp.Or(c.ManifestCheckInterval, defaultFresh),
		Push: registry.PushRule(c.LocalPushes), Platforms: c.Platforms, OnlySigned: c.OnlySigned, CosignTags: c.SyncLegacyCosignTags,
		Retries: c.MaxRetries, RetryDelay: c.RetryDelay, MaxDelay: c.MaxRetryDelay, Timeout: cmp.Or(c.SyncTimeout, defaultTimeout),
	}
	rt, err := transport(c, rules, p)
	if err != nil {
		return nil, err
	}
	if r.Rate, err = c.Rate(); err != nil {
		return nil, err
	}
	if r.Monthly, err = c.Monthly(); err != nil {
		return nil, err
	}
	for i := range c.Bandwidth {
		w, err := windowOf(&c.Bandwidth[i])
		if err != nil {
			return nil, fmt.Errorf("bandwidth[%d].%w", i, err)
		}
		r.Windows = append(r.Windows, w)
	}
	for _, u := range c.URLs {
		h, err := upstream.New(upstream.Options{
			URL: u, Transport: rt, Credentials: credentials(c, credentialsFile, u),
			Background: c.ReqConcurrent, PerSecond: c.ReqPerSec, Answer: c.ResponseHeaderTimeout, UserAgent: "berth/" + p.Version,
		})
		if err != nil {
			return nil, fmt.Errorf("urls: %w", err)
		}
		r.Hosts = append(r.Hosts, h)
	}
	for _, cc := range c.Content {
		x := Content{Prefix: cc.Prefix, Destination: cc.Destination, StripPrefix: cc.StripPrefix}
		if t := cc.Tags; t != nil {
			x.Semver = t.Semver
			if t.Regex != "" {
				if x.Regex, err = regexp.Compile(t.Regex); err != nil {
					return nil, err
				}
			}
			if t.ExcludeRegex != "" {
				if x.Exclude, err = regexp.Compile(t.ExcludeRegex); err != nil {
					return nil, err
				}
			}
		}
		r.Content = append(r.Content, x)
	}
	return r, nil
}

func windowOf(c *config.SyncWindow) (w Window, err error) {
	w.Copies = c.Copies
	if w.Days, err = c.Weekdays(); err != nil {
		return w, err
	}
	if w.From, w.To, err = c.Times(); err != nil {
		return w, err
	}
	w.Rate, err = c.Limit()
	return w, err
}

// credentials returns where the user of a host comes from: the rule itself, or the
// file of all hosts, by exactly host[:port].
func credentials(c *config.SyncRegistry, file, rawURL string) func(context.Context) (*upstream.Credentials, error) {
	if own := c.Credentials; own != nil {
		return func(context.Context) (*upstream.Credentials, error) {
			password, err := own.ReadPassword()
			if err != nil {
				return nil, err
			}
			return &upstream.Credentials{Username: own.Username, Password: string(password)}, nil
		}
	}
	if file == "" {
		return nil
	}
	host := upstream.HostOf(rawURL)
	return func(context.Context) (*upstream.Credentials, error) {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the credentials of upstreams: %w", err)
		}
		var all map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
		}
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, errors.New("the file of credentials is no JSON object of hosts")
		}
		for name, u := range all {
			if upstream.Canonical(name) == host {
				return &upstream.Credentials{Username: u.Username, Password: u.Password}, nil
			}
		}
		return nil, nil //nolint:nilnil // there are none for this host
	}
}
