package scanner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/scanner/vulndb"
)

// OpenDB opens the scanner's database as the storage section of a config file says.
type OpenDB func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error)

// Configured is a [Service] with the databases it was opened on.
type Configured struct {
	*Service
	db    *sqldb.DB
	vulns *vulndb.DB
}

// Close ends the scanner's work and closes its databases.
func (c *Configured) Close() error {
	return errors.Join(c.Service.Close(), c.vulns.Close(), c.db.Close())
}

// Wanted reports whether a config file wants images to be scanned.
func Wanted(cfg *config.Config) bool { return cfg.Extensions.Scanning() != nil }

// OpenConfigured opens the scanner that a config file describes. drivers are those
// that the program has in it, by the name in storage.metadata.driver.
func OpenConfigured(ctx context.Context, cfg *config.Config, drivers map[string]OpenDB, blobs Blobs, catalog Catalog, fatal func(error), p daemon.Process) (*Configured, error) {
	if cfg.Storage.RootDirectory == "" {
		return nil, errors.New("storage.rootDirectory: needed: the scanner keeps the vulnerability database there")
	}
	open := drivers[cfg.Storage.Metadata.Driver]
	if open == nil {
		return nil, fmt.Errorf("storage.metadata.driver: the scanner of this program has no driver %q, only %s", cfg.Storage.Metadata.Driver, strings.Join(slices.Sorted(maps.Keys(drivers)), ", "))
	}
	o, v, err := optionsOf(cfg, p)
	if err != nil {
		return nil, err
	}
	db, err := open(ctx, cfg.Storage, fatal, p.Log)
	if err != nil {
		return nil, err
	}
	vulns, err := vulndb.Open(v)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s, err := New(ctx, db, blobs, catalog, vulns, o)
	if err != nil {
		return nil, errors.Join(err, vulns.Close(), db.Close())
	}
	c := &Configured{s, db, vulns}
	c.follow(p)
	return c, nil
}

// follow has the scanner apply what changes in its configuration.
func (c *Configured) follow(p daemon.Process) {
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		if !Wanted(next) {
			return func() { c.Set(Live{Off: true}) }, nil
		}
		o, v, err := optionsOf(next, p)
		if err != nil {
			return nil, err
		}
		again := !reflect.DeepEqual(lookUp(p.Live.Current()), lookUp(next))
		return func() {
			c.Set(o.Live)
			if again {
				c.vulns.Choose(v.Sources, v.Ignored)
				c.Again()
			}
		}, nil
	}, "extensions.search.cve", "extensions.search.enable", "outbound")
}

// lookUp returns what of a config file says which findings images have.
func lookUp(cfg *config.Config) (all []string) {
	if cve := cfg.Extensions.Scanning(); cve != nil && cve.Trivy != nil {
		all = append([]string{cve.Trivy.IgnoreFile}, cve.Trivy.VulnSeveritySources...)
	}
	return all
}

// optionsOf returns what a config file says of scanning.
func optionsOf(cfg *config.Config, p daemon.Process) (Options, vulndb.Options, error) {
	cve := cfg.Extensions.Scanning()
	dir := filepath.Join(cfg.Storage.RootDirectory, ".berth", "scan")
	if err := vulndb.Private(dir); err != nil {
		return Options{}, vulndb.Options{}, err
	}
	o := Options{Scratch: filepath.Join(dir, "scratch"), Live: Live{Every: cve.UpdateInterval}, Version: p.Version, Metrics: p.Metrics, Log: p.Log}
	v := vulndb.Options{Dir: filepath.Join(dir, "db"), Sources: []string{"auto"}, Log: p.Log}
	t := cve.Trivy
	if t == nil {
		return o, v, nil
	}
	if len(t.VulnSeveritySources) > 0 {
		v.Sources = t.VulnSeveritySources
	}
	if t.IgnoreFile != "" {
		var err error
		if v.Ignored, err = vulndb.OpenIgnored(t.IgnoreFile, time.Now, p.Log); err != nil {
			return o, v, fmt.Errorf("extensions.search.cve.trivy.ignoreFile: %w", err)
		}
	}
	if t.SBOM != nil && t.SBOM.Enable {
		o.SBOM = registry.SBOMFormat(t.SBOM.Format)
	}
	if t.DBRepository == "" {
		return o, v, nil
	}
	const key = "extensions.search.cve.trivy.dbRepository"
	ref, err := vulndb.ParseRef(t.DBRepository)
	if err != nil {
		return o, v, fmt.Errorf("%s: %w", key, err)
	}
	rules, err := cfg.Outbound.Rules()
	if err != nil {
		return o, v, fmt.Errorf("outbound.allow: %w", err)
	}
	client, err := outbound.New(outbound.Options{
		Purpose: "scan", Rules: rules, Named: []string{ref.Base}, PlainHTTP: ref.Plain(), Agent: "berth/" + p.Version, HTTP2: true,
		Log: p.Log, Metrics: p.Metrics,
	})
	if err != nil {
		return o, v, fmt.Errorf("%s: %w", key, err)
	}
	o.Pull = &vulndb.Puller{Client: client.HTTP(), Ref: ref}
	return o, v, nil
}
