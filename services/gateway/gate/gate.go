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
	// keyless are authorities of the config file.
	keyless []*trust.Keyless

	mu       sync.Mutex // guards the rest
	keys     *trust.Keys
	read     time.Time // when keys were read
	verdicts map[string]verdict
	looked   map[look]bool
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

// New returns the gate that a config file describes, nil if it has none and verifies
// no signatures.
func New(c *config.Config, d Deps) (*Gate, error) {
	if c.Extensions == nil {
		return nil, nil
	}
	g := &Gate{d: d, tools: c.Extensions.Trust.Tools(), verdicts: make(map[string]verdict), looked: make(map[look]bool)}
	if g.d.Now == nil {
		g.d.Now = time.Now
	}
	var err error
	if g.keyless, err = keylessOf(c.Extensions.Trust); err != nil {
		return nil, err
	}
	for i, e := range c.Extensions.Gates {
		r := rule{Gate: e}
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

// Judge says whether whom may pull the manifest m of repo, which a may read; its bytes
// may be absent. That nobody can be asked is an error. It may be called on nil.
func (g *Gate) Judge(ctx context.Context, a, whom registry.Actor, repo registry.Name, m registry.Manifest) (v registry.PullVerdict, err error) {
	if !g.Covers(repo) {
		return registry.PullVerdict{Steps: []string{"no gate is about this repository"}}, nil
	}
	content := m.Bytes
	if content == nil {
		stored, err := g.d.Catalog.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}})
		if err != nil && !absent(err) {
			return v, fmt.Errorf("reading a manifest: %w", err)
		}
		content = stored.Bytes
	}
	switch exempt, err := g.saysOfAnother(ctx, a, repo, content); {
	case err != nil:
		return v, fmt.Errorf("looking at what a manifest has in it: %w", err)
	case exempt:
		return registry.PullVerdict{Steps: []string{"it has nothing in it but signatures, attestations or bills of materials, which no gate holds for"}}, nil
	}
	for _, r := range g.rules {
		if !r.repositories.Match(string(repo)) {
			continue
		}
		name := "the gate for " + strings.Join(r.Repositories, ", ")
		if r.excepts(whom) {
			v.Steps = append(v.Steps, name+" does not hold for "+whom.ID)
			continue
		}
		n := len(v.Steps)
		m.Bytes = content
		denied, warning, err := g.apply(ctx, a, repo, m, r, &v)
		if err != nil {
			return registry.PullVerdict{}, err
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

func (g *Gate) apply(ctx context.Context, a registry.Actor, repo registry.Name, m registry.Manifest, r rule, v *registry.PullVerdict) (denied, warning string, err error) {
	d := m.Digest
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
	case s.State == registry.ScanUnsupported: // by what it says of itself
		switch runs, err := g.runs(ctx, a, repo, m.Bytes); {
		case err != nil:
			return "", "", fmt.Errorf("looking at what a manifest has in it: %w", err)
		case runs:
			return r.unknown("it can't be scanned, and some clients can run it")
		}
		v.Steps = append(v.Steps, "there is nothing in it that can be scanned")
		return "", "", nil
	case !s.Scanned():
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
	keys = trust.New(all).With(g.keyless)
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
