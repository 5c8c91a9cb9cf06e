package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// MirrorOptions configure a [Mirror].
type MirrorOptions struct {
	// Blobs and Catalog are here: what is fetched goes into them.
	Blobs   *Blobs
	Catalog *Catalog
	// Upstream and UpstreamBlobs are what is mirrored, and pushed to.
	Upstream      *Catalog
	UpstreamBlobs *Blobs
	// Rule is the only rule: its Name is the upstream's, too, and its Scope says which
	// repositories it covers. They have the same names there.
	Rule registry.MirrorRule
}

// Mirror is a [registry.Mirror] of another catalog in memory. It fetches whole blobs
// before it answers, asks its upstream each time, and passes pushes on when they are
// settled.
type Mirror struct {
	o      MirrorOptions
	covers []*glob.Pattern

	mu       sync.Mutex // guards all below
	down     bool
	paused   bool
	runs     int64
	saved    int64
	claimed  map[registry.Name]bool // false: somebody said that it does not count
	forwards []registry.Forward
}

// mirrorActor is who a [Mirror] stores as.
var mirrorActor = registry.Actor{ID: "berth-sync", System: true}

// NewMirror returns a mirror that has fetched nothing.
func NewMirror(o MirrorOptions) (*Mirror, error) {
	m := &Mirror{o: o, claimed: make(map[registry.Name]bool)}
	for _, text := range o.Rule.Scope {
		p, err := glob.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("scope of rule %s: %w", o.Rule.Name, err)
		}
		m.covers = append(m.covers, p)
	}
	return m, nil
}

// SetDown says whether the upstream can't be reached.
func (m *Mirror) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *Mirror) covered(repo registry.Name) bool {
	for _, p := range m.covers {
		if p.Match(string(repo)) {
			return true
		}
	}
	return false
}

// source is an error unless repo may be fetched now: [registry.ErrNameUnknown] if
// nothing is fetched into it, [registry.ErrUnavailable] if nobody can be asked.
func (m *Mirror) source(ctx context.Context, repo registry.Name) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !m.o.Rule.OnDemand || !m.covered(repo) {
		return registry.ErrNameUnknown
	}
	m.mu.Lock()
	claimed, known := m.claimed[repo]
	down := m.down || m.paused
	m.mu.Unlock()
	if !known && m.o.Rule.Push != registry.PushForward {
		var err error
		if claimed, err = m.o.Catalog.PushedTo(ctx, mirrorActor, repo); err != nil {
			return err
		}
	}
	switch {
	case claimed:
		return registry.ErrNameUnknown
	case down:
		return registry.ErrUnavailable.With("the upstream registry %s can't be reached", m.o.Rule.Name)
	}
	return nil
}

// Route implements [registry.Puller].
func (m *Mirror) Route(_ context.Context, upstream string, repo registry.Name) (registry.Name, error) {
	if upstream != m.o.Rule.Name || !m.covered(repo) {
		return "", registry.ErrNameUnknown
	}
	return repo, nil
}

// Resolve implements [registry.Puller].
func (m *Mirror) Resolve(ctx context.Context, _ registry.Actor, repo registry.Name, ref registry.Reference, local registry.Digest) (registry.Resolution, error) {
	err := m.source(ctx, repo)
	if errors.Is(err, registry.ErrUnavailable) && local != "" {
		return registry.Resolution{Digest: local, Warning: registry.AsError(err).Text()}, nil
	}
	if err != nil {
		return registry.Resolution{}, err
	}
	found, err := m.o.Upstream.Manifest(ctx, mirrorActor, repo, registry.ManifestQuery{Ref: ref})
	if unknown(err) && local != "" {
		return registry.Resolution{Digest: local}, nil
	}
	if unknown(err) {
		err = registry.ErrManifestUnknown
	}
	if err != nil {
		return registry.Resolution{}, err
	}
	put := registry.ManifestPut{Digest: found.Digest, MediaType: found.MediaType, Bytes: found.Bytes}
	if ref.Tag != "" {
		put.Tags = []registry.Tag{ref.Tag}
	}
	_, err = m.o.Catalog.PutCached(ctx, mirrorActor, repo, put, registry.Origin{Upstream: m.o.Rule.Name})
	return registry.Resolution{Digest: found.Digest}, err
}

func unknown(err error) bool {
	return errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrBlobUnknown)
}

// Stat implements [registry.Puller].
func (m *Mirror) Stat(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest) (int64, error) {
	if err := m.source(ctx, repo); err != nil {
		return 0, err
	}
	b, err := m.o.Upstream.Blob(ctx, mirrorActor, repo, d)
	if unknown(err) {
		err = registry.ErrBlobUnknown
	}
	return b.Size, err
}

// Open implements [registry.Puller].
func (m *Mirror) Open(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	if _, err := m.Stat(ctx, a, repo, d); err != nil {
		return nil, err
	}
	from, err := m.o.Upstream.Blob(ctx, mirrorActor, repo, d)
	if err != nil {
		return nil, err
	}
	here, err := transfer(ctx, m.o.UpstreamBlobs, from, m.o.Blobs)
	if err != nil {
		return nil, err
	}
	if here, err = m.o.Catalog.LinkCached(ctx, mirrorActor, repo, here); err != nil {
		return nil, err
	}
	return m.o.Blobs.Open(ctx, here, r)
}

// transfer copies a blob from one store into another.
func transfer(ctx context.Context, from *Blobs, b registry.Blob, to *Blobs) (registry.Stored, error) {
	data := b.Inline
	if data == nil {
		c, err := from.Open(ctx, b.Stored, registry.Whole)
		if err != nil {
			return registry.Stored{}, err
		}
		data, err = io.ReadAll(c)
		if err = errors.Join(err, c.Close()); err != nil {
			return registry.Stored{}, err
		}
	}
	u, err := to.Start(ctx, "", b.Digest.Algorithm())
	if err != nil {
		return registry.Stored{}, err
	}
	return to.Commit(ctx, u, bytes.NewReader(data), b.Digest)
}

// FetchReferrers implements [registry.Puller].
func (m *Mirror) FetchReferrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := m.source(ctx, repo); err != nil {
		return err
	}
	for p := (registry.Page[registry.Digest]{Limit: registry.MaxPage}); ; {
		list, err := m.o.Upstream.Referrers(ctx, mirrorActor, repo, d, "", p)
		if unknown(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, x := range list.Items {
			p.After = x.Digest
			if _, err := m.Resolve(ctx, a, repo, registry.Reference{Digest: x.Digest}, ""); err != nil {
				return err
			}
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
}

// Covers implements [registry.PushRules].
func (m *Mirror) Covers(_ context.Context, repo registry.Name) (registry.Coverage, error) {
	if !m.covered(repo) {
		return registry.Coverage{}, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	forward := m.o.Rule.Push == registry.PushForward
	return registry.Coverage{Rule: m.o.Rule.Name, Push: m.o.Rule.Push, Claimed: m.claimed[repo] && !forward, Forward: forward}, nil
}

// Claim implements [registry.PushRules].
func (m *Mirror) Claim(_ context.Context, _ registry.Actor, repo registry.Name) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claimed[repo] = true
	return nil
}

// Check implements [registry.Checker].
func (m *Mirror) Check(ctx context.Context) (registry.Health, error) {
	return registry.Health{}, ctx.Err()
}
