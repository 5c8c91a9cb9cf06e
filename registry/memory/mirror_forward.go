package memory

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Announce implements [registry.Forwarding]. Removals are not passed on.
func (m *Mirror) Announce(ctx context.Context, a registry.Actor, repo registry.Name, p registry.AnnouncedPush) (string, error) {
	if m.o.Rule.Push != registry.PushForward || !m.covered(repo) || p.Deletion {
		return "", ctx.Err()
	}
	tags := p.Tags
	if len(tags) == 0 {
		tags = []registry.Tag{""}
	}
	now := time.Now().UnixMicro()
	m.mu.Lock()
	defer m.mu.Unlock()
	first := int64(1)
	if n := len(m.forwards); n > 0 {
		first = m.forwards[n-1].Number + 1
	}
	for i, t := range tags {
		m.forwards = append(m.forwards, registry.Forward{
			Number: first + int64(i), Rule: m.o.Rule.Name, Repository: repo, Tag: t, Digest: p.Digest, Actor: a.ID,
			Upstream: m.o.Rule.Name + "/" + string(repo), State: registry.ForwardAnnounced, Since: now, Changed: now,
		})
	}
	return strconv.FormatInt(first, 10) + "+" + strconv.Itoa(len(tags)), ctx.Err()
}

// Settle implements [registry.Forwarding].
func (m *Mirror) Settle(ctx context.Context, receipt string, stored bool) error {
	from, count, _ := strings.Cut(receipt, "+")
	first, err := strconv.ParseInt(from, 10, 64)
	n, err2 := strconv.ParseInt(count, 10, 64)
	if err != nil || err2 != nil || n < 1 {
		return registry.ErrParameterInvalid.With("not the receipt of an announced push")
	}
	mine := func(f registry.Forward) bool {
		return f.Number >= first && f.Number < first+n && f.State == registry.ForwardAnnounced
	}
	m.mu.Lock()
	if !stored {
		m.forwards = slices.DeleteFunc(m.forwards, mine)
	}
	for i := range m.forwards {
		if mine(m.forwards[i]) {
			m.forwards[i].State = registry.ForwardWaiting
		}
	}
	m.mu.Unlock()
	return m.deliver(ctx)
}

// deliver passes on what waits, in its order, as far as the upstream can be reached.
func (m *Mirror) deliver(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.next(ctx) {
	}
	return ctx.Err()
}

// next passes on what is next. It is false if nothing can be. m.mu must be held.
func (m *Mirror) next(ctx context.Context) bool {
	i := slices.IndexFunc(m.forwards, open)
	if i < 0 || m.forwards[i].State == registry.ForwardAnnounced || m.down || m.paused || ctx.Err() != nil {
		return false
	}
	f := m.forwards[i]
	f.Attempts++
	f.State, f.Changed = registry.ForwardDelivered, time.Now().UnixMicro()
	if err := m.send(ctx, f); unknown(err) {
		f.State, f.Error = registry.ForwardDropped, err.Error()
	} else if err != nil {
		f.State, f.Error = registry.ForwardRefused, err.Error()
	}
	m.forwards[i] = f
	m.forwards = slices.DeleteFunc(m.forwards, func(x registry.Forward) bool {
		return x.Number < f.Number && x.Repository == f.Repository && x.Tag == f.Tag
	})
	return true
}

// open reports whether a push has no end yet.
func open(f registry.Forward) bool {
	return f.State == registry.ForwardAnnounced || f.State == registry.ForwardWaiting
}

// send pushes a manifest and its blobs to the upstream.
func (m *Mirror) send(ctx context.Context, f registry.Forward) error {
	here, err := m.o.Catalog.Manifest(ctx, mirrorActor, f.Repository, registry.ManifestQuery{Ref: registry.Reference{Digest: f.Digest}})
	if err != nil {
		return err
	}
	info, err := registry.ParseManifest(here.MediaType, here.Bytes)
	if err != nil {
		return err
	}
	for _, ref := range info.References {
		b, err := m.o.Catalog.Blob(ctx, mirrorActor, f.Repository, ref.Digest)
		if err != nil {
			return err
		}
		there, err := transfer(ctx, m.o.Blobs, b, m.o.UpstreamBlobs)
		if err != nil {
			return err
		}
		if _, err := m.o.Upstream.Link(ctx, mirrorActor, f.Repository, there); err != nil {
			return err
		}
	}
	put := registry.ManifestPut{Digest: here.Digest, MediaType: here.MediaType, Bytes: here.Bytes}
	if f.Tag != "" {
		put.Tags = []registry.Tag{f.Tag}
	}
	_, err = m.o.Upstream.PutManifest(ctx, mirrorActor, f.Repository, put)
	return err
}

// Forwards implements [registry.Forwarding].
func (m *Mirror) Forwards(ctx context.Context, q registry.ForwardQuery) ([]registry.Forward, error) {
	if q.Limit < 1 || q.Limit > 1000 {
		return nil, registry.ErrParameterInvalid.With("the limit must be between 1 and 1000")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []registry.Forward
	for _, f := range m.forwards {
		if f.Number > q.After && (q.Rule == "" || q.Rule == f.Rule) && (q.Repository == "" || q.Repository == f.Repository) && (open(f) || !q.Open) && len(all) < q.Limit {
			all = append(all, f)
		}
	}
	return all, ctx.Err()
}

// Reforward implements [registry.Forwarding].
func (m *Mirror) Reforward(ctx context.Context, rule string) error {
	if err := m.rule(rule); err != nil {
		return err
	}
	if m.o.Rule.Push != registry.PushForward {
		return registry.ErrUnsupported.With("rule %s forwards nothing", rule)
	}
	m.mu.Lock()
	for i := range m.forwards {
		if s := m.forwards[i].State; s == registry.ForwardRefused || s == registry.ForwardKept {
			m.forwards[i].State = registry.ForwardWaiting
		}
	}
	m.mu.Unlock()
	return m.deliver(ctx)
}

// DropForward implements [registry.Forwarding].
func (m *Mirror) DropForward(ctx context.Context, number int64) error {
	m.mu.Lock()
	i := slices.IndexFunc(m.forwards, func(f registry.Forward) bool { return f.Number == number })
	if i < 0 {
		m.mu.Unlock()
		return registry.ErrNameUnknown.With("no push has the number %d", number)
	}
	if f := &m.forwards[i]; open(*f) {
		f.State, f.Error = registry.ForwardDropped, "it was given up here"
	} else {
		m.forwards = slices.Delete(m.forwards, i, i+1)
	}
	m.mu.Unlock()
	return m.deliver(ctx)
}
