package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
)

// presencePage is how many tags are looked at in one call.
const presencePage = 50

// Presence implements [registry.MirrorControl].
func (s *Service) Presence(ctx context.Context, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.TagPresence], error) {
	if p.Limit < 1 || p.Limit > registry.MaxPage {
		return registry.List[registry.TagPresence]{}, registry.ErrPageInvalid
	}
	p.Limit = min(p.Limit, presencePage)
	tags, err := s.catalog.Tags(ctx, installation, repo, p)
	if err != nil {
		return registry.List[registry.TagPresence]{}, fmt.Errorf("listing tags: %w", err)
	}
	list := registry.List[registry.TagPresence]{More: tags.More}
	look := looking{s: s, repo: repo, here: make(map[registry.Digest]bool)}
	for _, tag := range tags.Items {
		x, err := look.tag(ctx, tag)
		if errors.Is(err, registry.ErrManifestUnknown) {
			continue // it is gone meanwhile
		}
		if err != nil {
			return registry.List[registry.TagPresence]{}, err
		}
		list.Items = append(list.Items, x)
	}
	return list, nil
}

// looking finds out what of a repository is here.
type looking struct {
	s    *Service
	repo registry.Name
	here map[registry.Digest]bool // of blobs
	left int                      // how many entries of indexes are still looked at for a tag
}

// maxLooked is how many entries of indexes are looked at for one tag. An index that
// lists another one a thousand times, which does the same, has more than can be counted.
const maxLooked = 2000

func (l *looking) manifest(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	m, err := l.s.catalog.Manifest(ctx, installation, l.repo, registry.ManifestQuery{Ref: ref})
	if err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
		err = fmt.Errorf("reading a manifest: %w", err)
	}
	return m, err
}

// blob reports whether a blob is here.
func (l *looking) blob(ctx context.Context, d registry.Digest) (bool, error) {
	if here, ok := l.here[d]; ok {
		return here, nil
	}
	_, err := l.s.catalog.Blob(ctx, installation, l.repo, d)
	if err != nil && !errors.Is(err, registry.ErrBlobUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		return false, fmt.Errorf("looking for a blob: %w", err)
	}
	l.here[d] = err == nil
	return err == nil, nil
}

func (l *looking) tag(ctx context.Context, tag registry.Tag) (registry.TagPresence, error) {
	x := registry.TagPresence{Tag: tag}
	l.left = maxLooked
	m, err := l.manifest(ctx, registry.Reference{Tag: tag})
	if err != nil {
		return x, err
	}
	x.Digest = m.Digest
	if m.MediaType == registry.TypeIndex || m.MediaType == registry.TypeDockerList {
		x.Platforms, err = l.index(ctx, m, 0)
	} else {
		var one registry.PlatformPresence
		one, err = l.image(ctx, m, "")
		x.Platforms = []registry.PlatformPresence{one}
	}
	x.State = overall(x.Platforms)
	for _, p := range x.Platforms {
		x.Have += p.Have
		x.Size += p.Size
	}
	return x, err
}

// overall returns what the states of parts come to.
func overall(parts []registry.PlatformPresence) registry.Presence {
	complete, missing := 0, 0
	for _, p := range parts {
		switch p.State {
		case registry.Complete:
			complete++
		case registry.Missing:
			missing++
		}
	}
	switch len(parts) {
	case complete:
		return registry.Complete
	case missing:
		return registry.Missing
	}
	return registry.Partial
}

// index looks at what an index lists. What is attested of other entries is no
// platform.
func (l *looking) index(ctx context.Context, m registry.Manifest, depth int) ([]registry.PlatformPresence, error) {
	var list struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(m.Bytes, &list) != nil || depth > maxDepth {
		return nil, nil
	}
	var all []registry.PlatformPresence
	for _, d := range list.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		if l.left--; l.left < 0 {
			break
		}
		platform := ""
		if p := d.Platform; p != nil {
			platform = p.OS + "/" + p.Architecture
			if p.Variant != "" {
				platform += "/" + p.Variant
			}
		}
		child, err := l.manifest(ctx, registry.Reference{Digest: d.Digest})
		if errors.Is(err, registry.ErrManifestUnknown) {
			here, err := l.blob(ctx, d.Digest) // caches of builders list blobs
			if err != nil {
				return nil, err
			}
			one := registry.PlatformPresence{Platform: platform, Digest: d.Digest, State: registry.Missing}
			if here {
				one.State, one.Have, one.Size = registry.Complete, d.Size, d.Size
			}
			all = append(all, one)
			continue
		}
		if err != nil {
			return nil, err
		}
		if child.MediaType == registry.TypeIndex || child.MediaType == registry.TypeDockerList {
			below, err := l.index(ctx, child, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
			continue
		}
		one, err := l.image(ctx, child, platform)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// image looks at the blobs of an image whose manifest is here.
func (l *looking) image(ctx context.Context, m registry.Manifest, platform string) (registry.PlatformPresence, error) {
	x := registry.PlatformPresence{Platform: platform, Digest: m.Digest, State: registry.Complete}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return x, fmt.Errorf("reading a manifest: %w", err)
	}
	found, wanted := 0, 0
	for _, ref := range info.References {
		if ref.Optional || ref.Manifest {
			continue
		}
		here, err := l.blob(ctx, ref.Digest)
		if err != nil {
			return x, err
		}
		wanted++
		size := max(0, ref.Size)
		x.Size += size
		if here {
			found++
			x.Have += size
		}
	}
	switch found {
	case wanted:
	case 0:
		x.State = registry.Missing
	default:
		x.State = registry.Partial
	}
	return x, nil
}

const (
	// censusEvery is how often the tags of mirrored repositories are counted for the
	// metrics, and censusMost at most how many of them.
	censusEvery = 10 * time.Minute
	censusMost  = 20_000
)

// census counts tags by rule and state.
type census map[censusKey]int64

type censusKey struct {
	rule  string
	state registry.Presence
}

// count goes through the mirrored repositories.
func (s *Service) count(ctx context.Context) (census, error) {
	all := make(census)
	for _, r := range s.rules() {
		for _, state := range []registry.Presence{registry.Complete, registry.Partial, registry.Missing} {
			all[censusKey{r.Name, state}] = 0
		}
	}
	seen := 0
	for after := registry.Name(""); ; {
		page, err := s.catalog.Repositories(ctx, installation, registry.Page[registry.Name]{After: after, Limit: registry.MaxPage})
		if err != nil {
			return nil, fmt.Errorf("listing repositories: %w", err)
		}
		for _, repo := range page.Items {
			after = repo
			targets := s.targets(repo)
			if len(targets) == 0 {
				continue
			}
			if claimed, err := s.isClaimed(ctx, repo); err != nil || claimed {
				continue
			}
			for p := (registry.Page[registry.Tag]{Limit: registry.MaxPage}); ; {
				list, err := s.Presence(ctx, repo, p)
				if errors.Is(err, registry.ErrNameUnknown) {
					break
				}
				if err != nil {
					return nil, err
				}
				for _, t := range list.Items {
					all[censusKey{targets[0].rule.Name, t.State}]++
					p.After = t.Tag
				}
				if seen += len(list.Items); !list.More || len(list.Items) == 0 || seen >= censusMost {
					break
				}
			}
			if seen >= censusMost {
				return all, nil
			}
		}
		if !page.More || len(page.Items) == 0 {
			return all, nil
		}
	}
}

// counter keeps the census up to date.
func (s *Service) counter() {
	tick := time.NewTicker(censusEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		c, err := s.count(s.ctx)
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Warn("what is here of mirrored tags could not be counted", "error", err)
			}
			continue
		}
		s.census.Store(&c)
	}
}
