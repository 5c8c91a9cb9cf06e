package scanner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

const (
	// shortWalk is the least time between two walks through the catalog. A walk may
	// take a fiftieth of the time.
	shortWalk = time.Minute
	longWalk  = 6 * time.Hour
	// unseenFor is how long an image that no tag points to is remembered, unusedFor how
	// long a layer is, in microseconds.
	unseenFor = 7 * day
	unusedFor = 30 * day
)

// walkAll looks for images in the catalog, again and again.
func (s *Service) walkAll() {
	for {
		began := s.o.Now()
		if !s.live.Load().Off {
			if err := s.walk(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Warn("looking for images to scan", "error", err)
			}
		}
		took := s.o.Now().Sub(began)
		if !s.pause(nil, min(max(50*took, shortWalk), longWalk)) {
			return
		}
	}
}

// walk queues the images that tags point to and that are not known, and forgets those
// that none has pointed to for long.
func (s *Service) walk(ctx context.Context) error {
	began := s.now()
	repos := registry.Page[registry.Name]{Limit: 1000}
	for {
		list, err := s.catalog.Repositories(ctx, installation, repos)
		if err != nil {
			return fmt.Errorf("listing repositories: %w", err)
		}
		for _, repo := range list.Items {
			if err := s.walkTags(ctx, repo); err != nil {
				return err
			}
		}
		if !list.More || len(list.Items) == 0 {
			return s.store.prune(ctx, began-unseenFor, began-unusedFor)
		}
		repos.After = list.Items[len(list.Items)-1]
	}
}

func (s *Service) walkTags(ctx context.Context, repo registry.Name) error {
	tags := registry.Page[registry.Tag]{Limit: batch}
	for {
		list, err := s.catalog.Tags(ctx, installation, repo, tags)
		if errors.Is(err, registry.ErrNameUnknown) {
			return nil // it is gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("listing tags of %s: %w", repo, err)
		}
		jobs := make([]job, 0, len(list.Items))
		for _, t := range list.Items {
			m, err := s.catalog.Manifest(ctx, installation, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: t}, NoBytes: true})
			if errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) {
				continue
			}
			if err != nil {
				return fmt.Errorf("looking up %s:%s: %w", repo, t, err)
			}
			jobs = append(jobs, job{repo: repo, digest: m.Digest})
		}
		unseen, err := s.store.unseen(ctx, jobs, s.now()-day)
		if err == nil && len(unseen) > 0 {
			err = s.store.add(ctx, unseen, rankTag, s.now())
			poke(s.wake)
		}
		if err != nil {
			return fmt.Errorf("queueing images of %s: %w", repo, err)
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
		tags.After = list.Items[len(list.Items)-1]
	}
}

// renewAll looks images up again when there is a newer database.
func (s *Service) renewAll() {
	const often, seldom = 15 * time.Second, 10 * time.Minute
	var last time.Time
	var by string
	for {
		// What is ignored may have changed.
		if now, version := s.o.Now(), s.vulns.Current().Version; version != by || s.otherwise.Load() || now.Sub(last) >= seldom || now.Before(last) {
			last, by = now, version
			if err := s.renewed(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Error("looking images up in a newer vulnerability database", "error", err)
			}
		}
		if !s.pause(s.lookAgain, often) {
			return
		}
	}
}

// renewed is renew, and before it forgets what images were looked up in if they are to
// be looked up again in the same.
func (s *Service) renewed(ctx context.Context) error {
	if s.otherwise.Swap(false) {
		if err := s.store.outdate(ctx); err != nil {
			s.otherwise.Store(true)
			return err
		}
	}
	return s.renew(ctx)
}

// renew looks up all images that were looked up in another database than the one in
// use.
func (s *Service) renew(ctx context.Context) error {
	for {
		version := s.vulns.Current().Version
		if version == "" {
			return nil
		}
		some, err := s.store.stale(ctx, version, 50)
		if err != nil || len(some) == 0 {
			return err
		}
		before := make([]registry.Digest, len(some))
		for i := range some {
			before[i] = some[i].digest
		}
		known, err := s.store.statuses(ctx, before)
		if err != nil {
			return err
		}
		all := make([]renewed, 0, len(some))
		var repos []registry.Name // of all
		var failed []job
		var why error
		for i := range some {
			var found []registry.ScanFinding
			by, err := version, contents.ErrDamaged
			if some[i].image != nil {
				found, by, err = s.vulns.Lookup(ctx, some[i].image)
			}
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				failed, why = append(failed, job{repo: some[i].repo, digest: some[i].digest}), err
				continue
			}
			if by != version {
				break // there is a newer one by now
			}
			all, repos = append(all, renewed{some[i].digest, found}), append(repos, some[i].repo)
		}
		at := s.now()
		if err := s.store.renew(ctx, all, version, at); err != nil {
			return err
		}
		// One image holds up no other one: it is scanned again. If all fail, they are not
		// the reason.
		if len(failed) == len(some) && !errors.Is(why, contents.ErrDamaged) {
			return why
		}
		for _, j := range failed {
			s.log.Warn("an image can't be looked up again, and will be scanned again", "repository", j.repo, "digest", j.digest, "error", why)
			if err := s.store.hasten(ctx, j, rankTag, at, true); err != nil {
				return err
			}
			poke(s.wake)
		}
		for i, x := range all { // whoever was told is told again if there is something new
			if st := known[x.digest]; st.DB == "" || st.Counts != count(x.found) {
				s.announce(ctx, repos[i], x.digest, at, x.found)
			}
		}
		s.meters.renewed.Add(int64(len(all)))
	}
}
