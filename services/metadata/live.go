package metadata

import (
	"context"
	"fmt"
	"maps"
	"slices"
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
	gc             GC
	poolGC         map[registry.Pool]GC
	retention      *retention.Policies
	poolRetention  map[registry.Pool]*retention.Policies
	retentionEvery time.Duration
	limits         Limits
}

// policiesOf returns those of options. Quotas, and how many repositories there may be,
// are what they were at the start: their counts are kept by the names they had then.
func (o *Options) policiesOf(start Limits) *policies {
	p := &policies{o.GC, o.PoolGC, o.Retention, o.PoolRetention, o.RetentionEvery, o.Limits}
	if p.retention == nil {
		p.retention = retention.Default(0)
	}
	p.limits.Quotas, p.limits.MaxRepos = start.Quotas, start.MaxRepos
	return p
}

// limits returns the limits of the moment.
func (c *Catalog) limits() *Limits { return &c.policies.Load().limits }

// SetPolicies replaces garbage collection, retention, and which repositories and tags may
// not be changed, by those of o. What was promised before stays promised.
// Pools that o does not know keep theirs: those of others could remove what they hold.
func (c *Catalog) SetPolicies(o Options) {
	next, now := o.policiesOf(c.opt.Limits), c.policies.Load()
	next.poolGC, next.poolRetention = withRest(next.poolGC, now.poolGC), withRest(next.poolRetention, now.poolRetention)
	c.policies.Store(next)
	for _, p := range c.pools() {
		c.clock.atLeast(c.policy(p).Lease)
	}
	select {
	case c.retentionWake <- struct{}{}:
	default: // it wakes up already
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

// liveStorage are the keys of storage that take effect while the program runs. Those of
// subPaths take effect with them, but by themselves only at the next start.
var liveStorage = []string{
	"storage.gc", "storage.gcDelay", "storage.gcInterval", "storage.gcTimeWindow", "storage.undoWindow", "storage.retention", "storage.readOnly", "storage.immutableTags",
}

// follow has the catalog apply what changes in its configuration.
func (c *Catalog) follow(p daemon.Process, compile rules.Compiler) {
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { c.auditKeep.Store(int64(next.Log.AuditRetention)) }, nil
	}, "log.auditRetention")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		policy, err := rules.Compile(next.HTTP.AccessControl, compile)
		if err != nil {
			return nil, fmt.Errorf("http.accessControl.%w", err)
		}
		return func() { c.SetAccess(policy) }, nil
	}, "http.accessControl")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		o, err := policyOptions(next.Storage)
		if err != nil {
			return nil, err
		}
		return func() { c.SetPolicies(o) }, nil
	}, slices.Clone(liveStorage)...)
}

// policyOptions returns the options of what a config file says of limits, retention and
// garbage collection.
func policyOptions(cfg config.Storage) (o Options, err error) {
	o.RetentionEvery = cfg.GCInterval
	if o.Limits, err = limitsOf(cfg); err != nil {
		return o, err
	}
	if err = o.retain(cfg); err != nil {
		return o, err
	}
	return o, o.collect(cfg)
}
