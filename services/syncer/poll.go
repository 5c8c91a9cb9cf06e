package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// minBudget is how many pulls a scheduled copy leaves of what an upstream allows: the
// rest is for clients that wait.
const minBudget = 20

// schedule runs a rule's copies until the service closes.
func (s *Service) schedule(r *Rule) {
	wait := s.until(r)
	for attempt := 0; ; {
		timer := time.NewTimer(wait)
		kicked := attempt > 0
		select {
		case <-timer.C:
		case <-r.state.kick:
			kicked = true
			timer.Stop()
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		if r.state.paused.Load() {
			wait = r.Interval
			continue
		}
		held, done, mine, err := s.mayRun(s.ctx, r, copies(r))
		if err != nil || !mine {
			wait = min(leaseTime, r.Interval) // it is looked again whether they are due
			if err != nil && s.ctx.Err() == nil {
				s.log.Warn("scheduled copies could not begin", "rule", r.Name, "error", err)
			}
			continue
		}
		if s.shared && !kicked {
			// Another syncer may have run them meanwhile.
			if err := s.refresh(s.ctx); err == nil {
				if left := s.until(r); left > 0 {
					done()
					wait = left
					continue
				}
			}
		}
		err = s.copyRule(held, r)
		done()
		wait = r.Interval
		if err != nil && attempt < r.Retries {
			delay := r.RetryDelay << min(attempt, 16)
			wait = min(delay, max(r.MaxDelay, r.RetryDelay), r.Interval)
			attempt++
		} else {
			attempt = 0
		}
	}
}

// until returns how long it is until a rule's copies are due.
func (s *Service) until(r *Rule) time.Duration {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	last := r.state.row.lastRun
	if last == 0 {
		return 0
	}
	return max(0, min(r.Interval, time.UnixMicro(last).Add(r.Interval).Sub(s.now())))
}

// copyRule copies what a rule selects, once.
func (s *Service) copyRule(ctx context.Context, r *Rule) error {
	ctx = upstream.Background(ctx)
	r.state.mu.Lock()
	r.state.running = true
	r.state.row.done, r.state.row.total = 0, 0
	r.state.mu.Unlock()
	s.log.Info("a scheduled copy begins", "rule", r.Name)
	began := time.Now()
	err := s.copyAll(ctx, r)
	r.state.mu.Lock()
	r.state.running = false
	r.state.row.lastError = ""
	if err != nil {
		r.state.row.lastError = err.Error()
	}
	r.state.row.lastRun = s.now().UnixMicro()
	row := r.state.row
	r.state.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.meters.copyRuns.Inc()
	log := s.log.Info
	if err != nil {
		log = s.log.Warn
	}
	log("a scheduled copy ended", "rule", r.Name, "tags", row.done, "of", row.total, "took", time.Since(began).Round(time.Millisecond).String(), "error", err)
	if err := s.store.setRule(ctx, r.Name, row); err != nil {
		s.log.Warn("the end of a scheduled copy could not be noted", "rule", r.Name, "error", err)
	}
	return err
}

// copyAll goes through the repositories of a rule. What fails does not keep the
// others from being copied; the first error is returned.
func (s *Service) copyAll(ctx context.Context, r *Rule) error {
	var first error
	note := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	targets, err := s.remotes(ctx, r)
	note(err)
	pins := s.pins(ctx)
	type job struct {
		t      target
		tag    registry.Tag
		pinned bool
	}
	var jobs []job
	for _, t := range targets {
		claimed, err := s.isClaimed(ctx, t.repo)
		if err != nil {
			note(err)
			continue
		}
		if claimed {
			s.log.Info("a mirrored repository is left alone: it was pushed to here", "repository", t.repo)
			continue
		}
		var tags []string
		err = s.each([]target{t}, func(t target, h *upstream.Host) error {
			tags = nil
			return h.Tags(ctx, t.remote, func(page []string) error {
				for _, tag := range page {
					if _, err := registry.ParseTag(tag); err == nil && t.content.wants(tag) {
						tags = append(tags, tag)
					}
				}
				return nil
			})
		})
		if err != nil {
			note(fmt.Errorf("listing the tags of %s: %w", t.remote, err))
			continue
		}
		slices.Sort(tags)
		r.count(0, int64(len(tags)))
		for _, tag := range tags {
			jobs = append(jobs, job{t, registry.Tag(tag), pins.match(t.repo, registry.Tag(tag))})
		}
	}
	// What is pinned goes first.
	slices.SortStableFunc(jobs, func(a, b job) int {
		switch {
		case a.pinned == b.pinned:
			return 0
		case a.pinned:
			return -1
		}
		return 1
	})
	for _, j := range jobs {
		if err := s.mayCopy(ctx, r); err != nil {
			note(err)
			return first
		}
		err := s.copyTag(ctx, j.t, j.tag, j.pinned)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errUnsigned):
			s.meters.skipped.Inc()
		case err != nil:
			s.meters.copyFailed.Inc()
			note(fmt.Errorf("copying %s:%s: %w", j.t.remote, j.tag, err))
			if errors.Is(err, registry.ErrTooManyRequests) {
				return first
			}
			continue
		default:
			s.meters.copied.Inc()
		}
		r.count(1, 0)
	}
	return first
}

func (r *Rule) count(done, total int64) {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	r.state.row.done += done
	r.state.row.total += total
}

// remotes returns the upstream repositories that a rule selects. The upstream is
// asked for its list only if a prefix is a pattern.
func (s *Service) remotes(ctx context.Context, r *Rule) ([]target, error) {
	var all []target
	seen := make(map[string]bool)
	add := func(remote string) {
		if seen[remote] {
			return
		}
		for i := range r.Content {
			c := &r.Content[i]
			if !c.pattern.Match(remote) {
				continue
			}
			if name, err := registry.ParseName(c.local(remote)); err == nil {
				seen[remote] = true
				all = append(all, target{r, name, remote, c})
			}
			return
		}
	}
	list := false
	for i := range r.Content {
		prefix := strings.Trim(r.Content[i].Prefix, "/")
		if strings.ContainsAny(prefix, "*?[{") {
			list = true
			continue
		}
		add(prefix)
	}
	if !list {
		return all, nil
	}
	err := s.each([]target{{rule: r}}, func(_ target, h *upstream.Host) error {
		return h.Repositories(ctx, func(page []string) error {
			for _, remote := range page {
				if _, err := registry.ParseName(remote); err == nil {
					add(remote)
				}
			}
			return nil
		})
	})
	if err != nil {
		err = fmt.Errorf("listing the repositories of %s: %w", r.Host, err)
	}
	return all, err
}

var errUnsigned = errors.New("the image has no signature")

// copyTag copies one tag with all it refers to. The tag is set when all is here.
func (s *Service) copyTag(ctx context.Context, t target, tag registry.Tag, pinned bool) error {
	ctx, cancel := context.WithTimeout(ctx, t.rule.Timeout)
	defer cancel()
	return s.each([]target{t}, func(t target, h *upstream.Host) error {
		c := &copying{s: s, t: t, h: h, pinned: pinned, done: make(map[registry.Digest]bool)}
		return c.tag(ctx, tag)
	})
}

// copying is one image on its way.
type copying struct {
	s      *Service
	t      target
	h      *upstream.Host
	pinned bool
	done   map[registry.Digest]bool
}

func (c *copying) tag(ctx context.Context, tag registry.Tag) error {
	if owed, err := c.s.owes(ctx, c.t.repo, tag); err != nil || owed {
		return err // what is upstream is older
	}
	// HEAD counts as no pull, and tells what is left.
	d, err := c.h.HeadManifest(ctx, c.t.remote, registry.Reference{Tag: tag})
	if err != nil {
		return err
	}
	ref := registry.Reference{Digest: d}
	if d == "" {
		ref = registry.Reference{Tag: tag}
	}
	m, err := c.manifest(ctx, ref)
	if err != nil {
		return err
	}
	if c.t.rule.OnlySigned {
		if signed, err := c.signed(ctx, m.Digest); err != nil {
			return err
		} else if !signed {
			return errUnsigned
		}
	}
	if err := c.tree(ctx, m, tag, 0); err != nil {
		return err
	}
	if c.t.rule.CosignTags {
		if err := c.cosign(ctx, m.Digest); err != nil {
			return err
		}
	}
	return c.s.store.setTag(ctx, c.t.repo, tag, seen{m.Digest, c.s.now()})
}

// manifest returns a manifest, from here if it is here.
func (c *copying) manifest(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	if ref.Digest != "" {
		m, err := c.s.catalog.Manifest(ctx, installation, c.t.repo, registry.ManifestQuery{Ref: ref})
		if err == nil {
			return m, nil
		}
	}
	if left := c.h.Budget(); left >= 0 && left < minBudget {
		return registry.Manifest{}, registry.ErrTooManyRequests.With("the upstream registry %s allows %d more pulls, which are left to clients", c.h.Name(), left)
	}
	m, err := c.h.Manifest(ctx, c.t.remote, ref)
	if err == nil {
		c.t.rule.state.bytes.Add(m.Size)
		c.s.meters.manifests.Inc()
	}
	return m, err
}

// maxDepth is how deep indexes and referrers may lie in each other.
const maxDepth = 4

// tree copies a manifest with all below it, and what refers to it.
func (c *copying) tree(ctx context.Context, m registry.Manifest, tag registry.Tag, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s lies deeper than %d levels of manifests", m.Digest, maxDepth)
	}
	if c.done[m.Digest] {
		return nil
	}
	c.done[m.Digest] = true
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	platforms := c.platforms(m)
	for _, ref := range info.References {
		switch {
		case ref.Optional:
			continue
		case ref.Manifest && platforms != nil && !platforms[ref.Digest]:
			continue
		case ref.Manifest:
			err = c.child(ctx, ref, depth)
		default:
			err = c.blob(ctx, ref.Digest, ref.Size)
		}
		if err != nil {
			return err
		}
	}
	if err := c.put(ctx, m, tag); err != nil {
		return err
	}
	list, err := c.h.Referrers(ctx, c.t.remote, m.Digest)
	if err != nil {
		return err
	}
	for i, desc := range list {
		if i == maxReferrers {
			break
		}
		r, err := c.manifest(ctx, registry.Reference{Digest: desc.Digest})
		if err != nil {
			return err
		}
		if err := c.tree(ctx, r, "", depth+1); err != nil {
			return err
		}
	}
	return nil
}

// put stores a manifest, and sets a tag unless it is "".
func (c *copying) put(ctx context.Context, m registry.Manifest, tag registry.Tag) error {
	if tag == "" {
		return c.s.put(ctx, c.t, m, "", registry.Condition{})
	}
	now, err := c.s.catalog.Manifest(ctx, installation, c.t.repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	if err != nil && !errors.Is(err, registry.ErrManifestUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		return fmt.Errorf("looking where a tag points to: %w", err)
	}
	_, err = c.s.putTag(ctx, c.t, m, tag, now.Digest)
	return err
}

// child copies what an index lists: a manifest, or a blob as buildkit's caches have.
func (c *copying) child(ctx context.Context, ref registry.ManifestReference, depth int) error {
	m, err := c.manifest(ctx, registry.Reference{Digest: ref.Digest})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return c.blob(ctx, ref.Digest, ref.Size)
	}
	if err != nil {
		return err
	}
	return c.tree(ctx, m, "", depth+1)
}

// platforms returns which entries of an index the rule wants: those of its platforms
// and those without any, nil for all. Attestations belong to the image they name.
func (c *copying) platforms(m registry.Manifest) map[registry.Digest]bool {
	if len(c.t.rule.Platforms) == 0 || m.MediaType != registry.TypeIndex && m.MediaType != registry.TypeDockerList {
		return nil
	}
	var index struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(m.Bytes, &index) != nil {
		return nil
	}
	want := make(map[registry.Digest]bool)
	for _, d := range index.Manifests {
		p := d.Platform
		if p == nil {
			want[d.Digest] = true
			continue
		}
		full := p.OS + "/" + p.Architecture
		for _, wanted := range c.t.rule.Platforms {
			if wanted == full || p.Variant != "" && wanted == full+"/"+p.Variant {
				want[d.Digest] = true
			}
		}
	}
	for _, d := range index.Manifests {
		if of := d.Annotations["vnd.docker.reference.digest"]; of != "" && want[registry.Digest(of)] {
			want[d.Digest] = true
		}
	}
	return want
}

// blob fetches a blob unless it is here, and waits until it is kept.
func (c *copying) blob(ctx context.Context, d registry.Digest, size int64) error {
	if _, err := c.s.catalog.Blob(ctx, installation, c.t.repo, d); err == nil {
		return nil
	}
	return c.s.whole(ctx, []target{c.t}, d, size, c.pinned)
}

// whole fetches a blob that is not here, and waits until it is kept.
func (s *Service) whole(ctx context.Context, targets []target, d registry.Digest, size int64, pinned bool) error {
	if size < 0 {
		size = -1
	}
	f, err := s.follow(ctx, d, targets[0].repo, targets, size)
	if err != nil {
		return err
	}
	defer f.release()
	if pinned {
		f.pin()
	}
	for {
		f.mu.Lock()
		ended, stored, err, changed := f.ended, f.stored, f.err, f.changed
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ended && stored.Digest == "":
			return registry.ErrUnavailable.With("%s could not be stored", d)
		case ended:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cosignTags are what old cosign calls what belongs to a manifest.
var cosignTags = []string{".sig", ".att", ".sbom"}

func cosignTag(d registry.Digest, kind string) registry.Tag {
	return registry.Tag(strings.Replace(string(d), ":", "-", 1) + kind)
}

func (c *copying) cosign(ctx context.Context, d registry.Digest) error {
	for _, kind := range cosignTags {
		tag := cosignTag(d, kind)
		m, err := c.h.Manifest(ctx, c.t.remote, registry.Reference{Tag: tag})
		if errors.Is(err, registry.ErrManifestUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.tree(ctx, m, tag, 1); err != nil {
			return err
		}
		if err := c.s.store.setTag(ctx, c.t.repo, tag, seen{m.Digest, c.s.now()}); err != nil {
			return err
		}
	}
	return nil
}

// The artifact types of signatures.
var signatureTypes = []string{
	"application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.cncf.notary.signature",
}

// signed reports whether the upstream has a signature of d, which nobody verifies.
func (c *copying) signed(ctx context.Context, d registry.Digest) (bool, error) {
	list, err := c.h.Referrers(ctx, c.t.remote, d)
	if err != nil {
		return false, err
	}
	for _, r := range list {
		if slices.Contains(signatureTypes, r.ArtifactType) {
			return true, nil
		}
	}
	_, err = c.h.HeadManifest(ctx, c.t.remote, registry.Reference{Tag: cosignTag(d, ".sig")})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return false, nil
	}
	return err == nil, err
}
