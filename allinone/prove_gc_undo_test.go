package allinone

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

func (w *soaker) deleteTag(ctx context.Context, r *soakRepo) error {
	tag := pickKey(w.rand, r.tags)
	if tag == "" {
		return nil
	}
	at := w.s.now()
	err := w.try(soakDelete, func() error {
		return w.catalog.DeleteTag(ctx, prover, r.name, tag, registry.Condition{})
	})
	if err != nil {
		return fmt.Errorf("deleting tag %s: %w", tag, err)
	}
	r.untag(tag, at)
	return w.gone(ctx, r, registry.Reference{Tag: tag})
}

// gone checks that what was deleted is not to be had (I6).
func (w *soaker) gone(ctx context.Context, r *soakRepo, ref registry.Reference) error {
	return w.try(soakPull, func() error {
		_, err := w.catalog.Manifest(ctx, prover, r.name, registry.ManifestQuery{Ref: ref, NoBytes: true})
		if errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) {
			return nil
		}
		return fmt.Errorf("I6: %v was deleted, and is there: %w", ref, err)
	})
}

func (w *soaker) deleteManifest(ctx context.Context, r *soakRepo) error {
	tag := pickKey(w.rand, r.tags)
	if tag == "" {
		return nil
	}
	d := r.tags[tag]
	at := w.s.now()
	err := w.try(soakDelete, func() error { return w.catalog.DeleteManifest(ctx, prover, r.name, d) })
	if errors.Is(err, registry.ErrInUse) && r.listed[d] {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", d, err)
	}
	for tag, of := range r.tags {
		if of == d {
			r.untag(tag, at)
		}
	}
	delete(r.untagged, d)
	if r.isTagged(d) {
		return fmt.Errorf("I3: %s was deleted, and a tagged index lists it", d)
	}
	r.deleted[d] = at
	return w.gone(ctx, r, registry.Reference{Digest: d})
}

// undelete brings back an image that was deleted.
func (w *soaker) undelete(ctx context.Context, r *soakRepo) error {
	d := pickKey(w.rand, r.deleted)
	if d == "" || len(r.manifests[d].children) > 0 {
		return nil
	}
	at := w.s.now()
	err := w.try(soakRestore, func() error {
		return w.catalog.Undelete(ctx, prover, r.name, registry.Reference{Digest: d})
	})
	if err != nil {
		err = w.within(r.deleted[d], soakUndo, fmt.Errorf("restoring %s, deleted %v ago: %w", d, w.s.now().Sub(r.deleted[d]), err))
		delete(r.deleted, d)
		return err
	}
	delete(r.deleted, d)
	r.untagged[d] = untagged{at, ""}
	// Which tags came with it only the registry knows, if others exist again.
	for n := range 5 {
		tag := registry.Tag(fmt.Sprintf("v%d", n))
		if _, is := r.tags[tag]; is {
			continue
		}
		m, err := w.catalog.Manifest(ctx, prover, r.name, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
		switch {
		case errors.Is(err, registry.ErrManifestUnknown):
		case err != nil:
			return err
		case m.Digest != d:
			return fmt.Errorf("I6: tag %s is %s after %s was restored", tag, m.Digest, d)
		default:
			r.tag(tag, d, at)
		}
	}
	return w.within(at, soakLease, w.try(soakPull, func() error { return w.pullManifest(ctx, r, d) }))
}

// rollback lets a tag point again to what it did.
func (w *soaker) rollback(ctx context.Context, r *soakRepo) error {
	d := pickKey(w.rand, r.untagged)
	u := r.untagged[d]
	if d == "" || u.tag == "" || u.tag == "multi" || len(r.manifests[d].children) > 0 {
		return nil
	}
	at := w.s.now()
	err := w.try(soakRestore, func() error {
		_, err := w.catalog.RollbackTag(ctx, prover, r.name, u.tag, d, registry.Condition{})
		return err
	})
	if err != nil {
		err = w.within(u.at, soakUndo, fmt.Errorf("tag %s back to %s, which it was %v ago: %w", u.tag, d, w.s.now().Sub(u.at), err))
		delete(r.untagged, d)
		return err
	}
	r.tag(u.tag, d, at)
	return w.pull(ctx, r, u.tag)
}

// unlink deletes a blob, unless a manifest needs it.
func (w *soaker) unlink(ctx context.Context, r *soakRepo) error {
	d := registry.SHA256.FromBytes(w.s.content(w.rand))
	err := w.try(soakDelete, func() error { return w.catalog.Unlink(ctx, prover, r.name, d) })
	switch {
	case errors.Is(err, registry.ErrBlobUnknown), errors.Is(err, registry.ErrNameUnknown), errors.Is(err, registry.ErrInUse):
		return nil
	case err != nil:
		return err
	}
	needed := map[registry.Digest]bool{}
	for _, of := range r.tags {
		r.needs(of, needed)
	}
	if needed[d] {
		return fmt.Errorf("I3: blob %s was deleted, and a tagged manifest needs it", d)
	}
	return nil
}

// deleteRepository deletes everything, and brings it back half the time.
func (w *soaker) deleteRepository(ctx context.Context, r *soakRepo) error {
	at := w.s.now()
	err := w.try(soakDelete, func() error { return w.catalog.DeleteRepository(ctx, prover, r.name) })
	if errors.Is(err, registry.ErrNameUnknown) && len(r.tags) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting the repository: %w", err)
	}
	// Where time jumps an older one of the same name may outlast this one.
	if w.rand.IntN(2) == 0 && !w.s.jumps {
		err := w.try(soakRestore, func() error { return w.catalog.Undelete(ctx, prover, r.name, registry.Reference{}) })
		if err == nil {
			for tag := range r.tags {
				return w.pull(ctx, r, tag)
			}
			return nil
		}
		if err := w.within(at, soakUndo, fmt.Errorf("restoring the repository: %w", err)); err != nil {
			return err
		}
	}
	*r = *emptySoakRepo(r.name)
	return nil
}

// still checks that what has lost its tags can be pulled while that can be undone.
func (w *soaker) still(ctx context.Context, r *soakRepo) error {
	d := pickKey(w.rand, r.untagged)
	u := r.untagged[d]
	if d == "" || u.tag == "" {
		return nil
	}
	return w.within(u.at, soakUndo, w.try(soakPull, func() error { return w.pullManifest(ctx, r, d) }))
}
