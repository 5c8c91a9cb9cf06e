package allinone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/metadata"
)

// verify checks a backup.
func (r *backupRequest) verify(ctx context.Context, parts Parts) (err error) {
	target, err := r.openTarget(ctx, parts, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	m, err := r.find(ctx, target)
	if err != nil {
		return err
	}
	found := make(chan registry.Finding)
	done := make(chan error, 1)
	go func() {
		defer close(found)
		done <- eachBackupBlob(ctx, target, m, r.workers, func(ctx context.Context, x metadata.ExportedBlob) error {
			return r.verifyBlob(ctx, target, m, x, func(f registry.Finding) { found <- f })
		})
	}()
	for f := range found {
		err = errors.Join(err, r.report(f))
	}
	switch failed := <-done; {
	case errors.Is(failed, registry.ErrDigestInvalid) || errors.Is(failed, registry.ErrBlobUnknown):
		err = errors.Join(err, r.report(registry.Finding{Invariant: "I12", Problem: failed.Error()}))
	case failed != nil:
		err = errors.Join(err, failed)
	}
	if err == nil && r.findings == 0 {
		err = r.tell(m, fmt.Sprintf(": all is well (%s)", r.subset))
	}
	return err
}

// verifyBlob checks a blob of a backup. Found is called from many goroutines.
func (r *backupRequest) verifyBlob(ctx context.Context, target registry.Blobs, m *backupManifest, x metadata.ExportedBlob, found func(registry.Finding)) error {
	s, err := backupCopy(ctx, target, x.Stored)
	if err == nil && r.subset.has(x.Digest) {
		err = target.Verify(ctx, s, 0)
	}
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		if x.Live && !slices.Contains(m.Damaged, x.Digest.String()) {
			found(registry.Finding{Invariant: "I12", Digest: x.Digest, Problem: "the backup lacks this blob"})
		}
		return nil
	case errors.Is(err, registry.ErrDigestInvalid):
		found(registry.Finding{Invariant: "I5", Digest: x.Digest, Problem: "the backup's bytes of this blob do not hash to its digest"})
		return nil
	}
	return err
}

// backupCopy returns where the target has the content of s.
func backupCopy(ctx context.Context, target registry.Blobs, s registry.Stored) (registry.Stored, error) {
	made, err := target.Copies(ctx, "", &registry.Stored{Digest: s.Digest}, 1)
	if err != nil {
		return registry.Stored{}, err
	}
	if len(made) == 0 || made[0].Digest != s.Digest || made[0].Size != s.Size {
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	return made[0], nil
}

// restore fills an empty store.
func (r *backupRequest) restore(ctx context.Context, parts Parts) (err error) {
	cfg, _, err := config.Load(r.file)
	if err != nil {
		return err
	}
	if err := notServed(ctx, cfg); err != nil {
		return err
	}
	target, err := r.openTarget(ctx, parts, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	m, err := r.find(ctx, target)
	if err != nil {
		return err
	}
	names, err := newAside(ctx, cfg, parts, r.log, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, names.remove()) }()
	if err := importBackup(ctx, target, m, names); err != nil {
		return err
	}
	var printing error
	move := &metadata.Move{
		From: names.db, Source: "backup " + m.ID, Workers: r.workers, KeepDamaged: true,
		Found:    func(f registry.Finding) { printing = errors.Join(printing, r.report(f)) },
		Progress: progressPrinter(r.out, time.Now),
	}
	to := &migration{parts: parts, log: r.log}
	defer func() { err = errors.Join(err, to.close()) }()
	if err := to.openRestore(ctx, cfg.Storage, target, move); err != nil {
		return err
	}
	if err := poolsExist(ctx, names, move); err != nil {
		return err
	}
	resuming, err := move.Resuming(ctx)
	if err != nil {
		return err
	}
	if resuming {
		fmt.Fprintln(r.out, "going on with the restore that was interrupted")
	} else if err := to.wantEmpty(ctx); err != nil {
		return err
	}
	if err := errors.Join(move.Run(ctx), printing); err != nil {
		return err
	}
	if r.json != nil {
		return r.tell(m, "")
	}
	fmt.Fprintf(r.out, "restored %s: the store is as it was between %s and %s\n", m.ID,
		time.UnixMicro(m.Begun).UTC().Format(time.RFC3339), time.UnixMicro(m.Ended).UTC().Format(time.RFC3339))
	return nil
}

// importBackup reads the names of a backup into a database aside. What nothing
// referred to is left out.
func importBackup(ctx context.Context, target registry.Journal, m *backupManifest, to *aside) error {
	i := 0
	err := metadata.Import(ctx, to.db, func() ([]byte, error) {
		if i == len(m.Parts) {
			return nil, io.EOF
		}
		i++
		return readBackupPart(ctx, target, m, i-1)
	})
	if err != nil {
		return err
	}
	return metadata.DropUnlinked(ctx, to.db)
}

// poolsExist returns an error if the backup has a pool that the store has not.
func poolsExist(ctx context.Context, names *aside, move *metadata.Move) error {
	pools, err := metadata.PoolsIn(ctx, names.db)
	if err != nil {
		return err
	}
	var lacking []string
	for _, p := range pools {
		if move.Pools[p] == nil {
			lacking = append(lacking, string(p))
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("storage.subPaths: the config file lacks %s, where the backup has blobs", strings.Join(lacking, ", "))
	}
	return nil
}

// openRestore opens the store that is to be filled.
func (m *migration) openRestore(ctx context.Context, s config.Storage, from registry.Blobs, move *metadata.Move) (err error) {
	if move.To, err = m.parts.Database(ctx, s, func(err error) { m.broken = err }, m.log); err != nil {
		return fmt.Errorf("opening the catalog: %w", err)
	}
	m.closers = append(m.closers, move.To)
	pools := map[registry.Pool]config.Pool{"": s.Pool}
	for name, sub := range s.SubPaths {
		pools[registry.Pool(name)] = sub.Pool
	}
	move.Pools = make(map[registry.Pool]func(context.Context, registry.Stored) (registry.Stored, error))
	for name, p := range pools {
		to, err := m.parts.Pool(ctx, p, m.log)
		if err != nil {
			return fmt.Errorf("opening pool %q: %w", name, err)
		}
		m.closers = append(m.closers, to)
		m.targets = append(m.targets, to)
		move.Pools[name] = func(ctx context.Context, x registry.Stored) (registry.Stored, error) {
			s, err := backupCopy(ctx, from, x)
			if err != nil {
				return registry.Stored{}, err
			}
			return copyBlob(ctx, from, to, s)
		}
	}
	return nil
}
