package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

const (
	// coversTime is how long a push waits to hear whether a mirror covers its
	// repository, once it is known what the mirror may cover.
	coversTime = 2 * time.Second
	// learnEvery is how often the mirror is asked what it may cover.
	learnEvery = 30 * time.Second
)

// coverage is what a gateway remembers of a mirror that is another process: pushes
// into repositories that are not its business go on when it does not answer.
type coverage struct {
	mu     sync.Mutex // guards all below
	known  bool
	scopes []*glob.Pattern
	passed []*glob.Pattern // those of rules that pass pushes on

	served map[registry.Name]int64 // bytes of blobs that the mirror has not been told of
}

// count notes bytes that a client got of a repository which may be a mirrored one. Those
// of more repositories than the mirror is told of at a time are not counted.
func (c *coverage) count(repo registry.Name, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known && !within(c.scopes, repo) {
		return
	}
	if _, ok := c.served[repo]; !ok && len(c.served) >= registry.MaxServed {
		return
	}
	if c.served == nil {
		c.served = make(map[registry.Name]int64)
	}
	c.served[repo] += n
}

// take returns what was counted, and begins anew.
func (c *coverage) take() []registry.Served {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]registry.Served, 0, len(c.served))
	for repo, n := range c.served {
		all = append(all, registry.Served{Repository: repo, Bytes: n})
	}
	c.served = nil
	return all
}

// served counts bytes of a blob that a client got because it is here.
func (g *Gateway) served(x *exchange, n int64) {
	if g.mirror != nil && x.r.Method == http.MethodGet {
		g.coverage.count(x.repo, n)
	}
}

// tellServed tells the mirror what clients got.
func (g *Gateway) tellServed(ctx context.Context) error {
	all := g.coverage.take()
	if len(all) == 0 {
		return nil
	}
	err := g.mirror.Served(ctx, all)
	if err != nil {
		for _, s := range all {
			g.coverage.count(s.Repository, s.Bytes)
		}
	}
	return doing("telling the mirror what was served", err)
}

// excludes reports whether the mirror is known not to cover a repository.
func (c *coverage) excludes(repo registry.Name) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known && !within(c.scopes, repo)
}

// keeps reports whether the mirror is known to pass nothing on of a repository.
func (c *coverage) keeps(repo registry.Name) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known && !within(c.passed, repo)
}

func within(all []*glob.Pattern, repo registry.Name) bool {
	return slices.ContainsFunc(all, func(p *glob.Pattern) bool { return p.Match(string(repo)) })
}

// learn keeps what rules say. A glob that can't be read may mean anything.
func (c *coverage) learn(rules []registry.MirrorRule) {
	var all, passed []*glob.Pattern
	for _, r := range rules {
		scope := r.Scope
		if len(scope) == 0 { // a mirror that does not say
			scope = []string{"**"}
		}
		for _, text := range scope {
			p, err := glob.Compile(text)
			if err != nil {
				p, _ = glob.Compile("**")
			}
			all = append(all, p)
			if r.Push == registry.PushForward {
				passed = append(passed, p)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.scopes, c.passed = true, all, passed
}

// LearnMirror asks the mirror once what it may cover, if there is one, and tells it what
// clients got. Until that has worked all pushes depend on the mirror's answers.
func (g *Gateway) LearnMirror(ctx context.Context) error {
	if g.mirror == nil {
		return nil
	}
	rules, err := g.mirror.MirrorRules(ctx)
	if err != nil {
		return doing("asking for the rules of the mirror", err)
	}
	g.coverage.learn(rules)
	return g.tellServed(ctx)
}

// learnCoverage asks the mirror what it may cover, until ctx ends.
func (g *Gateway) learnCoverage(ctx context.Context) {
	for wait := time.Duration(0); ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), coversTime)
			_ = g.tellServed(last) // it is only a figure
			cancel()
			return
		case <-timer.C:
		}
		_ = g.LearnMirror(ctx) // it is asked again
		if wait = learnEvery; !g.coverage.isKnown() {
			wait = time.Second
		}
	}
}

func (c *coverage) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// covers asks the mirror about a repository. A mirror that does not answer covers
// nothing that it has never covered.
func (g *Gateway) covers(ctx context.Context, repo registry.Name) (registry.Coverage, error) {
	if !g.coverage.excludes(repo) {
		return g.mirror.Covers(ctx, repo)
	}
	within, cancel := context.WithTimeout(ctx, coversTime)
	defer cancel()
	c, err := g.mirror.Covers(within, repo)
	if err != nil && ctx.Err() == nil && (errors.Is(err, registry.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		return registry.Coverage{}, nil
	}
	return c, err
}
