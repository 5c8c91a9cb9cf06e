// Package gate decides whether an image may be pulled: by how severe its known
// vulnerabilities are, and by who has signed it.
package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/trust"
)

// Deps are what decisions are made with.
type Deps struct {
	Catalog registry.Catalog
	Blobs   registry.Blobs
	// Scans knows of vulnerabilities. nil: nobody does.
	Scans registry.Scans
	Now   func() time.Time // nil means time.Now
}

// How long what was found out holds.
const (
	keysFor     = 5 * time.Second
	verdictFor  = 10 * time.Second
	maxVerdicts = 10_000
)

// Gate decides. Its methods may be called by many goroutines.
type Gate struct {
	d     Deps
	rules []rule
	tools []string // of signatures that may be trusted

	mu       sync.Mutex // guards the rest
	keys     *trust.Keys
	read     time.Time // when keys were read
	verdicts map[string]verdict
}

type verdict struct {
	signatures []trust.Signature
	at         time.Time
}

// rule is an entry of extensions.gates.
type rule struct {
	config.Gate
	repositories glob.Set
	from         time.Time
	severity     registry.Severity
}

// Verdict is what becomes of a pull.
type Verdict struct {
	// Denied says why the image may not be pulled, "" if it may.
	Denied string
	// Warnings tell what is wrong with an image that may be pulled.
	Warnings []string
	// Steps tell people how that was decided.
	Steps []string
}

// New returns the gate that a config file describes, nil if it has none and verifies
// no signatures.
func New(c *config.Config, d Deps) (*Gate, error) {
	if c.Extensions == nil {
		return nil, nil
	}
	g := &Gate{d: d, tools: c.Extensions.Trust.Tools(), verdicts: make(map[string]verdict)}
	if g.d.Now == nil {
		g.d.Now = time.Now
	}
	for i, e := range c.Extensions.Gates {
		r := rule{Gate: e}
		var err error
		if r.repositories, err = glob.CompileAll(e.Repositories); err != nil {
			return nil, fmt.Errorf("extensions.gates[%d].repositories: %w", i, err)
		}
		if e.From != "" {
			if r.from, err = config.ParseDay(e.From); err != nil {
				return nil, fmt.Errorf("extensions.gates[%d].from: %w", i, err)
			}
		}
		if e.Severity != "" {
			if r.severity, err = registry.ParseSeverity(e.Severity); err != nil {
				return nil, fmt.Errorf("extensions.gates[%d].severity: %w", i, err)
			}
			if d.Scans == nil {
				return nil, fmt.Errorf("extensions.gates[%d].severity: needs a scanner: extensions.search.cve, and a program that has one", i)
			}
		}
		g.rules = append(g.rules, r)
	}
	if len(g.rules) == 0 && len(g.tools) == 0 {
		return nil, nil
	}
	return g, nil
}

// Covers reports whether a rule is about repo. It may be called on nil.
func (g *Gate) Covers(repo registry.Name) bool {
	return g != nil && slices.ContainsFunc(g.rules, func(r rule) bool { return r.repositories.Match(string(repo)) })
}

// Decide says whether a may pull the manifest d of repo, which a may read. That
// nobody can be asked is an error.
func (g *Gate) Decide(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (v Verdict, err error) {
	for _, r := range g.rules {
		if !r.repositories.Match(string(repo)) {
			continue
		}
		name := "the gate for " + strings.Join(r.Repositories, ", ")
		if r.excepts(a) {
			v.Steps = append(v.Steps, name+" does not hold for "+a.ID)
			continue
		}
		n := len(v.Steps)
		denied, warning, err := g.apply(ctx, a, repo, d, r, &v)
		if err != nil {
			return Verdict{}, err
		}
		if warning != "" {
			v.Warnings = append(v.Warnings, warning)
		}
		switch {
		case denied == "":
			if len(v.Steps) == n {
				v.Steps = append(v.Steps, name+" lets it pass")
			}
		case g.d.Now().Before(r.from):
			v.Warnings = append(v.Warnings, fmt.Sprintf("from %s on this image can't be pulled: %s", r.from.Format(time.DateOnly), denied))
			v.Steps = append(v.Steps, fmt.Sprintf("%s begins on %s; it will block: %s", name, r.from.Format(time.DateOnly), denied))
		default:
			v.Steps = append(v.Steps, name+" blocks: "+denied)
			if v.Denied == "" {
				v.Denied = denied
			}
		}
	}
	if len(v.Steps) == 0 {
		v.Steps = []string{"no gate is about this repository"}
	}
	return v, nil
}

// excepts reports whether the rule does not hold for a.
func (r rule) excepts(a registry.Actor) bool {
	for _, who := range r.Except {
		if group, ok := strings.CutPrefix(who, "group:"); ok && slices.Contains(a.Groups, group) || !ok && a.ID != "" && a.ID == who {
			return true
		}
	}
	return false
}

func (g *Gate) apply(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, r rule, v *Verdict) (denied, warning string, err error) {
	if r.SignedBy != "" {
		sigs, err := g.SignaturesOf(ctx, a, repo, d)
		if err != nil {
			return "", "", err
		}
		if denied = r.unsigned(sigs); denied != "" {
			return denied, "", nil
		}
		v.Steps = append(v.Steps, "it has a trusted signature")
	}
	if r.Severity == "" {
		return "", "", nil
	}
	s, err := g.d.Scans.ScanStatus(ctx, repo, d)
	if err != nil {
		return r.unknown("its vulnerabilities can't be looked up now")
	}
	switch {
	case s.State == registry.ScanUnsupported:
		v.Steps = append(v.Steps, "there is nothing in it that can be scanned")
		return "", "", nil
	case s.State != registry.ScanDone:
		return r.unknown(fmt.Sprintf("it is not scanned (%s)", orNone(string(s.State))))
	case s.DB == "":
		return r.unknown("there is no vulnerability database yet")
	}
	if worst(s.Counts) < int(r.severity) {
		v.Steps = append(v.Steps, "its worst known vulnerability is "+s.Counts.Max())
		return "", "", nil
	}
	ids, err := g.severe(ctx, d, r)
	if err != nil {
		return r.unknown("its vulnerabilities can't be looked up now")
	}
	if len(ids) == 0 {
		v.Steps = append(v.Steps, "those of its vulnerabilities that count are below "+r.Severity)
		return "", "", nil
	}
	more := ""
	if len(ids) > 5 {
		more = fmt.Sprintf(" and %d more", len(ids)-5)
	}
	return fmt.Sprintf("it has vulnerabilities of severity %s or worse: %s%s", r.Severity, strings.Join(ids[:min(5, len(ids))], ", "), more), "", nil
}

// unknown is what the rule says of an image nobody knows about.
func (r rule) unknown(why string) (denied, warning string, err error) {
	if r.Unknown == "deny" {
		return why + ", and images here must be", "", nil
	}
	return "", "nobody knows of this image's vulnerabilities: " + why, nil
}

func orNone(s string) string {
	if s == "" {
		return "never"
	}
	return s
}

// worst is the highest severity that was found, -1 if nothing was.
func worst(c registry.SeverityCounts) int {
	for s := len(c) - 1; s >= 0; s-- {
		if c[s] > 0 {
			return s
		}
	}
	return -1
}

// severe lists the vulnerabilities of an image that count.
func (g *Gate) severe(ctx context.Context, d registry.Digest, r rule) (ids []string, err error) {
	page, err := g.d.Scans.Findings(ctx, d, registry.FindingQuery{})
	if err != nil {
		return nil, err
	}
	for _, f := range page.Items {
		fixed := slices.ContainsFunc(f.Packages, func(p registry.FindingPackage) bool { return p.Fixed != "" })
		if f.Severity < r.severity || slices.Contains(r.Allow, f.ID) || r.OnlyFixed && !fixed {
			continue
		}
		ids = append(ids, f.ID)
	}
	return ids, nil
}

// unsigned says why signatures do not do, "" if they do.
func (r rule) unsigned(sigs []trust.Signature) string {
	problem, tool := "", r.SignedBy
	for _, s := range sigs {
		if r.SignedBy != "any" && s.Tool != r.SignedBy {
			continue
		}
		if s.Trusted {
			return ""
		}
		problem = s.Problem
	}
	if tool == "any" {
		tool = "cosign or notation"
	}
	if problem == "" {
		return "it has no signature of " + tool
	}
	return "its signature is not trusted: " + problem
}

// SignaturesOf returns the signatures of a manifest, and of the indexes that list
// it: who signs an index signs what it lists. What it says may be some seconds old.
func (g *Gate) SignaturesOf(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]trust.Signature, error) {
	all, err := g.signatures(ctx, a, repo, d)
	if err != nil || slices.ContainsFunc(all, func(s trust.Signature) bool { return s.Trusted }) {
		return all, err
	}
	parents, err := g.d.Catalog.Parents(ctx, a, repo, d)
	if err != nil {
		return nil, fmt.Errorf("looking for the index of an image: %w", err)
	}
	for _, p := range parents {
		more, err := g.signatures(ctx, a, repo, p)
		if errors.Is(err, registry.ErrManifestUnknown) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func (g *Gate) signatures(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]trust.Signature, error) {
	keys, err := g.currentKeys(ctx)
	if err != nil {
		return nil, err
	}
	at := keys.Revision + "\n" + string(repo) + "@" + string(d)
	now := g.d.Now()
	g.mu.Lock()
	known, ok := g.verdicts[at]
	g.mu.Unlock()
	if ok && now.Sub(known.at) < verdictFor {
		return known.signatures, nil
	}
	v := trust.Verifier{Catalog: g.d.Catalog, Blobs: g.d.Blobs, Now: g.d.Now}
	all, err := v.Signatures(ctx, a, repo, d, keys)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s trust.Signature) bool { return !slices.Contains(g.tools, s.Tool) })
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.verdicts) >= maxVerdicts {
		clear(g.verdicts)
	}
	g.verdicts[at] = verdict{all, now}
	return all, nil
}

// currentKeys returns the keys that were uploaded, as they were some seconds ago.
func (g *Gate) currentKeys(ctx context.Context) (*trust.Keys, error) {
	now := g.d.Now()
	g.mu.Lock()
	keys, read := g.keys, g.read
	g.mu.Unlock()
	if keys != nil && now.Sub(read) < keysFor {
		return keys, nil
	}
	all, err := g.d.Catalog.Trusted(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading trusted keys: %w", err)
	}
	keys = trust.New(all)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys, g.read = keys, now
	return keys, nil
}

// Forget has the keys read again: they were changed here.
func (g *Gate) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = nil
}

// Verifies reports whether signatures of a tool are verified. It may be called on
// nil.
func (g *Gate) Verifies(tool string) bool { return slices.Contains(g.Tools(), tool) }

// Tools lists the tools whose signatures are verified. It may be called on nil.
func (g *Gate) Tools() []string {
	if g == nil {
		return nil
	}
	return g.tools
}
