package memory

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/berth-registry/berth/registry"
)

// AppendJournal implements [registry.Journal].
func (b *Blobs) AppendJournal(ctx context.Context, name string, content []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !registry.IsJournalName(name) || len(content) > registry.MaxJournalObject {
		return registry.ErrSizeInvalid
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.journal[name]; ok && !bytes.Equal(old, content) {
		return registry.ErrPreconditionFailed
	}
	b.journal[name] = bytes.Clone(content)
	return nil
}

// ReadJournal implements [registry.Journal].
func (b *Blobs) ReadJournal(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.journal[name]
	if !ok {
		return nil, registry.ErrBlobUnknown
	}
	return bytes.Clone(content), nil
}

// ListJournal implements [registry.Journal].
func (b *Blobs) ListJournal(ctx context.Context, after string, limit int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(b.journal)), func(name string) bool { return name <= after })
	return all[:min(max(limit, 1), len(all))], nil
}

// RemoveJournal implements [registry.Journal].
func (b *Blobs) RemoveJournal(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.journal, name)
	return nil
}

// Export implements [registry.Exporter]: there is nothing that outlives the
// process to keep a copy of.
func (c *Catalog) Export(ctx context.Context, _ func([]byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return registry.ErrUnsupported
}
