package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// OpenDB opens the syncer's database as the storage section of a config file says.
type OpenDB func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error)

// Parts are what a program has in it of what a config file may ask for.
type Parts struct {
	Databases map[string]OpenDB             // by storage.metadata.driver
	Helpers   map[string]credentials.Helper // by credentialHelper, besides oauth2, which all have
	Dial      func(address string) (Peer, error)
}

// Configured is a [Service] with the database it was opened on.
type Configured struct {
	*Service
	db      *sqldb.DB
	notices *noticeServer // nil: none are taken
}

// Close ends the syncer's work and closes its database.
func (c *Configured) Close() error {
	var err error
	if c.notices != nil {
		err = c.notices.Close()
	}
	return errors.Join(err, c.Service.Close(), c.db.Close())
}

// Wanted reports whether a config file has rules to follow.
func Wanted(cfg *config.Config) bool {
	e := cfg.Extensions
	return e != nil && e.Sync != nil && e.Sync.Enabled() && len(e.Sync.Registries) > 0
}

// OpenConfigured opens the syncer that a config file describes.
func OpenConfigured(ctx context.Context, cfg *config.Config, parts Parts, blobs Blobs, catalog Catalog, fatal func(error), p daemon.Process) (*Configured, error) {
	o, err := optionsOf(cfg, parts.Helpers, p)
	if err != nil {
		return nil, err
	}
	open := parts.Databases[cfg.Storage.Metadata.Driver]
	if open == nil {
		return nil, fmt.Errorf("storage.metadata.driver: the syncer of this program has no driver %q, only %s", cfg.Storage.Metadata.Driver, strings.Join(slices.Sorted(maps.Keys(parts.Databases)), ", "))
	}
	db, err := open(ctx, cfg.Storage, fatal, p.Log)
	if err != nil {
		return nil, err
	}
	o.Dial = parts.Dial
	s, err := New(ctx, db, blobs, catalog, o)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c := &Configured{Service: s, db: db}
	if n := cfg.Extensions.Sync.Notices; n != nil {
		if c.notices, err = s.listenNotices(ctx, n, p.Log); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	s.followFile(parts.Helpers, p)
	return c, nil
}

// optionsOf returns what a config file says of mirroring.
func optionsOf(cfg *config.Config, helpers map[string]credentials.Helper, p daemon.Process) (Options, error) {
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
	if cfg.Storage.Metadata.Driver != config.SQLite {
		o.Shared, o.Holder = true, HolderHere(o.Staging)
		var err error
		if o.Address, err = addressHere(cfg.Services.Syncer.Listen, sync.Advertise); err != nil {
			return o, err
		}
	}
	var err error
	o.Rules, err = rulesOf(cfg, helpers, p)
	return o, err
}

// source is what a rule is made of.
type source struct {
	rule            config.SyncRegistry
	credentialsFile string
	outbound        config.Outbound
}

// rulesOf returns the rules of a config file, which may have none.
func rulesOf(cfg *config.Config, helpers map[string]credentials.Helper, p daemon.Process) (all []*Rule, err error) {
	if !Wanted(cfg) {
		return nil, nil
	}
	allowed, err := cfg.Outbound.Rules()
	if err != nil {
		return nil, fmt.Errorf("outbound.allow: %w", err)
	}
	sync := cfg.Extensions.Sync
	for i := range sync.Registries {
		r, err := ruleOf(&sync.Registries[i], sync.CredentialsFile, helpers, allowed, p)
		if err != nil {
			return nil, fmt.Errorf("extensions.sync.registries[%d]: %w", i, err)
		}
		r.Source = source{sync.Registries[i], sync.CredentialsFile, cfg.Outbound}
		all = append(all, r)
	}
	return all, nil
}

func ruleOf(c *config.SyncRegistry, credentialsFile string, helpers map[string]credentials.Helper, rules outbound.Rules, p daemon.Process) (*Rule, error) {
	if len(c.URLs) == 0 {
		return nil, errors.New("urls: needed")
	}
	r := &Rule{
		Host: upstream.HostOf(c.URLs[0]), OnDemand: c.OnDemand, Interval: c.PollInterval, Fresh: cmp.Or(c.ManifestCheckInterval, defaultFresh),
		Moves: Moves(c.TagMoves), Push: registry.PushRule(c.LocalPushes), Conflict: Conflict(c.Forward.Conflict), Compare: c.Forward.Interval, Deletes: c.Forward.Deletes, Platforms: c.Platforms, OnlySigned: c.OnlySigned, CosignTags: c.SyncLegacyCosignTags,
		Retries: c.MaxRetries, RetryDelay: c.RetryDelay, MaxDelay: c.MaxRetryDelay, Timeout: cmp.Or(c.SyncTimeout, defaultTimeout),
	}
	if n := c.Notices; n != nil {
		r.NoticeSecret = func() (string, error) {
			secret, err := config.ReadSecret(n.Secret, n.SecretFile)
			return string(secret), err
		}
	}
	if p := c.Prune; p != nil {
		r.Prune = Prune{On: p.Enabled(), DryRun: p.DryRun, Grace: p.Grace}
	}
	rt, err := transport(c, rules, p)
	if err != nil {
		return nil, err
	}
	if r.Rate, err = c.Rate(); err != nil {
		return nil, err
	}
	if r.Upload, err = c.Upload(); err != nil {
		return nil, err
	}
	if r.Monthly, err = c.Monthly(); err != nil {
		return nil, err
	}
	if r.MaxBlob, err = c.MaxBlob(); err != nil {
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
		user, err := userOf(c, credentialsFile, helpers, u, rules, p)
		if err != nil {
			return nil, err
		}
		h, err := upstream.New(upstream.Options{
			URL: u, Transport: rt, Credentials: user,
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
	if w.Rate, err = c.Limit(); err != nil {
		return w, err
	}
	w.Upload, err = c.UploadLimit()
	return w, err
}
