package metadata

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/berth-registry/berth/registry"
	rules "github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/metadata/retention"
)

// policies are what of the options may change while the catalog is open, all at once:
// what is promised, what is collected, and what retention keeps go together.
type policies struct {
	gc              GC
	poolGC          map[registry.Pool]GC
	retention       *retention.Policies
	poolRetention   map[registry.Pool]*retention.Policies
	retentionEvery  time.Duration
	limits          Limits
	scrub           Scrub
	cache           Cache
	pinned          []pin // by the config file
	allowSparse     bool
	allowWrongSizes bool
	// began is when garbage collection was switched on for pools, while the catalog was open.
	began map[registry.Pool]int64
}

// policiesOf returns those of options.
func (o *Options) policiesOf() (*policies, error) {
	p := &policies{
		o.GC, o.PoolGC, o.Retention, o.PoolRetention, o.RetentionEvery, o.Limits, o.Scrub, o.Cache, nil, o.AllowSparse, o.AllowWrongSizes, nil,
	}
	if p.retention == nil {
		p.retention = retention.Default(0)
	}
	for _, text := range o.Cache.Pins {
		pin, err := parsePin(text)
		if err != nil {
			return nil, fmt.Errorf("pin %q: %w", text, err)
		}
		pin.Reason = byCacheConfig
		p.pinned = append(p.pinned, pin)
	}
	return p, nil
}

// limits returns the limits of the moment.
func (c *Catalog) limits() *Limits { return &c.policies.Load().limits }

// SetPolicies replaces garbage collection, retention, limits, scrubbing, how much is
// cached and what a push may lack by those of o. What was promised before stays promised.
// Pools that o does not know keep theirs: those of others could remove what they hold.
func (c *Catalog) SetPolicies(o Options) error {
	next, err := o.policiesOf()
	if err != nil {
		return err
	}
	c.setPolicies(next)
	return nil
}

func (c *Catalog) setPolicies(next *policies) {
	now := c.policies.Load()
	next.poolGC, next.poolRetention = withRest(next.poolGC, now.poolGC), withRest(next.poolRetention, now.poolRetention)
	next.cache.PoolBytes = withRest(next.cache.PoolBytes, now.cache.PoolBytes)
	others := next.limits.follow(&now.limits)
	next.began = withRest(nil, now.began)
	for _, p := range c.pools() {
		if c.policyOf(now, p).Off && !c.policyOf(next, p).Off {
			next.began[p] = c.now()
		}
	}
	c.policies.Store(next)
	c.forgetRows()
	for _, p := range c.pools() {
		c.clock.atLeast(c.policy(p).Lease)
	}
	select {
	case c.retentionWake <- struct{}{}:
	default: // it wakes up already
	}
	c.wakeScrub()
	if others {
		c.wakeQuotas()
	}
}

// forgetRows empties the caches: what they have was promised by other policies.
func (c *Catalog) forgetRows() {
	if ch := c.change(); c.rows.on {
		ch.all = true
		ch.begin()
		ch.end()
	}
}

// withRest returns next with what of now is not in it.
func withRest[V any](next, now map[registry.Pool]V) map[registry.Pool]V {
	all := maps.Clone(now)
	if all == nil {
		all = make(map[registry.Pool]V, len(next))
	}
	maps.Copy(all, next)
	return all
}

// liveStorage are the keys of storage that take effect while the program runs.
var liveStorage = []string{
	"storage.gc", "storage.gcDelay", "storage.gcInterval", "storage.gcTimeWindow", "storage.undoWindow", "storage.retention",
	"storage.maxRepos", "storage.quotas", "storage.readOnly", "storage.immutableTags", "storage.allowSparse", "storage.allowWrongSizes",
	"storage.cache", "storage.verifyReads", "extensions.scrub",
	"storage.subPaths.*.gc", "storage.subPaths.*.gcDelay", "storage.subPaths.*.gcInterval", "storage.subPaths.*.gcTimeWindow",
	"storage.subPaths.*.retention", "storage.subPaths.*.cache",
}

// follow has the catalog apply what changes in its configuration.
func (c *Catalog) follow(p daemon.Process, has Drivers) {
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { c.auditKeep.Store(int64(next.Log.AuditRetention)) }, nil
	}, "log.auditRetention")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		policy, err := rules.Compile(next.HTTP.AccessControl, has.Conditions)
		if err != nil {
			return nil, fmt.Errorf("http.accessControl.%w", err)
		}
		return func() { c.SetAccess(policy) }, nil
	}, "http.accessControl")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		o, err := policyOptions(next)
		if err != nil {
			return nil, err
		}
		policies, err := o.policiesOf()
		if err != nil {
			return nil, err
		}
		return func() { c.setPolicies(policies) }, nil
	}, liveStorage...)
	p.Live.Subscribe(func(ctx context.Context, next *config.Config) (func(), error) {
		sinks, err := sinksOf(next, has, p)
		if err != nil {
			return nil, err
		}
		if err := c.outbox.meet(ctx, sinks); err != nil {
			return nil, err
		}
		return func() { c.outbox.set(sinks) }, nil
	}, "extensions.events", "outbound")
}

// policyOptions returns the options of what a config file says of limits, retention,
// garbage collection and the like.
func policyOptions(file *config.Config) (o Options, err error) {
	cfg := file.Storage
	o.RetentionEvery, o.AllowSparse, o.AllowWrongSizes = cfg.GCInterval, cfg.AllowSparse, cfg.AllowWrongSizes
	o.Cache, o.Scrub = cacheOf(cfg), scrubOf(file)
	if o.Limits, err = limitsOf(cfg); err != nil {
		return o, err
	}
	if err = o.retain(cfg); err != nil {
		return o, err
	}
	return o, o.collect(cfg)
}
