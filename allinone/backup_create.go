package allinone

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/metadata"
)

// backupRounds is how often the names are read anew because content that they tell
// of was collected before it could be copied. What was copied counts for the next
// round, so that is much shorter.
const backupRounds = 5

// create makes a backup.
func (r *backupRequest) create(ctx context.Context, parts Parts) (err error) {
	cfg, _, err := config.Load(r.file)
	if err != nil {
		return err
	}
	if absolute(r.target) == absolute(cfg.Storage.RootDirectory) {
		return errors.New("a backup inside of the store would be lost with it")
	}
	store, err := Reach(ctx, cfg, parts, r.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.Blobs == nil {
		return errors.New("the config file does not say where the blobstore is (services.blobstore.address)")
	}
	target, err := r.openTarget(ctx, parts, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()

	now := time.Now()
	b := &backupMaker{backupRequest: r, store: store, target: target, m: backupManifest{
		Format: backupFormat, ID: strings.ToLower(now.UTC().Format("20060102T150405Z")) + "-" + strings.ToLower(rand.Text()[:6]), Begun: now.UnixMicro(),
	}}
	if err := b.sweep(ctx); err != nil {
		return err
	}
	for round := 1; ; round++ {
		b.m.Round = fmt.Sprint(round)
		if err := b.copyNames(ctx); err != nil {
			return err
		}
		if err := b.copyBlobs(ctx); err != nil {
			return err
		}
		if len(b.missing) == 0 || slices.Equal(b.missing, b.before) || round == backupRounds {
			break
		}
		b.before = b.missing
	}
	return b.complete(ctx)
}

// backupMaker is one run of create.
type backupMaker struct {
	*backupRequest
	store  *Store
	target Blobs
	m      backupManifest

	mu      sync.Mutex        // guards all below
	missing []registry.Digest // by this round
	before  []registry.Digest // by the round before
	damaged []registry.Digest
}

// sweep removes what interrupted runs have left, but for blobs, which are used.
func (b *backupMaker) sweep(ctx context.Context) error {
	complete := map[string]bool{}
	var all []string
	after := backupPrefix
	for {
		page, err := b.target.ListJournal(ctx, after, 1000)
		if err != nil {
			return err
		}
		for _, name := range page {
			after = name
			id, rest, ok := strings.Cut(strings.TrimPrefix(name, backupPrefix), ".")
			if !ok || !strings.HasPrefix(name, backupPrefix) {
				continue
			}
			if strings.HasSuffix(rest, ".json") {
				complete[id] = true
			}
			all = append(all, name)
		}
		if len(page) < 1000 {
			break
		}
	}
	for _, name := range all {
		id, _, _ := strings.Cut(strings.TrimPrefix(name, backupPrefix), ".")
		if complete[id] {
			continue
		}
		if err := b.target.RemoveJournal(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// copyNames copies the catalog as it is at one moment.
func (b *backupMaker) copyNames(ctx context.Context) error {
	b.m.Parts = nil
	return b.store.Catalog.Export(ctx, func(part []byte) error {
		name := b.m.part(len(b.m.Parts))
		sum := sha256.Sum256(part)
		b.m.Parts = append(b.m.Parts, hex.EncodeToString(sum[:]))
		return b.target.AppendJournal(ctx, name, part)
	})
}

// copyBlobs copies the blobs that the names tell of and the target lacks.
func (b *backupMaker) copyBlobs(ctx context.Context) error {
	b.missing, b.damaged, b.m.Blobs, b.m.Bytes = nil, nil, 0, 0
	err := eachBackupBlob(ctx, b.target, &b.m, b.workers, b.copyBlob)
	slices.Sort(b.missing)
	return err
}

func (b *backupMaker) copyBlob(ctx context.Context, x metadata.ExportedBlob) error {
	made, err := b.target.Copies(ctx, "", &registry.Stored{Digest: x.Digest}, 1)
	if err != nil {
		return err
	}
	if len(made) == 0 || made[0].Digest != x.Digest || made[0].Size != x.Size {
		_, err = copyBlob(ctx, b.store.Blobs, b.target, x.Stored)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		if x.Live {
			b.missing = append(b.missing, x.Digest)
		}
		return nil
	case errors.Is(err, registry.ErrDigestInvalid):
		b.damaged = append(b.damaged, x.Digest)
		return nil
	case err != nil:
		return fmt.Errorf("copying %s: %w", x.Digest, err)
	}
	b.m.Blobs++
	b.m.Bytes += x.Size
	return nil
}

// complete writes the manifest.
func (b *backupMaker) complete(ctx context.Context) error {
	for _, d := range b.missing {
		b.m.Damaged = append(b.m.Damaged, d.String())
		if err := b.report(registry.Finding{Invariant: "I12", Digest: d, Problem: "the blob's copy is missing: the backup lacks it"}); err != nil {
			return err
		}
	}
	for _, d := range b.damaged {
		b.m.Damaged = append(b.m.Damaged, d.String())
		if err := b.report(registry.Finding{Invariant: "I5", Digest: d, Problem: "the blob's copy is damaged: the backup lacks it"}); err != nil {
			return err
		}
	}
	b.m.Ended = time.Now().UnixMicro()
	content, err := json.Marshal(b.m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	b.m.digest = hex.EncodeToString(sum[:])
	if err := b.target.AppendJournal(ctx, backupPrefix+b.m.ID+"."+b.m.digest+".json", content); err != nil {
		return err
	}
	return b.tell(&b.m, "  sha256:"+b.m.digest)
}

// eachBackupBlob calls each for each blob that the parts of a backup name, some at a
// time.
func eachBackupBlob(ctx context.Context, target registry.Journal, m *backupManifest, workers int, each func(context.Context, metadata.ExportedBlob) error) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(max(1, workers))
	var names metadata.ExportedBlobs
	err := eachBackupPart(inner, target, m, func(part []byte) error {
		return names.Part(part, func(x metadata.ExportedBlob) error {
			if err := inner.Err(); err != nil {
				return err
			}
			g.Go(func() error { return each(inner, x) })
			return nil
		})
	})
	if failed := g.Wait(); failed != nil {
		return failed
	}
	return err
}

// eachBackupPart calls each for each part of a backup.
func eachBackupPart(ctx context.Context, target registry.Journal, m *backupManifest, each func([]byte) error) error {
	for i := range m.Parts {
		part, err := readBackupPart(ctx, target, m, i)
		if err != nil {
			return err
		}
		if err := each(part); err != nil {
			return err
		}
	}
	return nil
}

// readBackupPart reads a part of a backup and compares it with the manifest.
func readBackupPart(ctx context.Context, target registry.Journal, m *backupManifest, i int) ([]byte, error) {
	part, err := target.ReadJournal(ctx, m.part(i))
	if sum := sha256.Sum256(part); err == nil && hex.EncodeToString(sum[:]) != m.Parts[i] {
		err = registry.ErrDigestInvalid
	}
	if err != nil {
		return nil, fmt.Errorf("part %d of backup %s: %w", i, m.ID, err)
	}
	return part, nil
}
