package memory

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
)

// openUpload is an upload session that somebody told of.
type openUpload struct {
	owner   string
	touched time.Time
}

// NoteUploads implements [registry.OpenUploads].
func (c *Catalog) NoteUploads(ctx context.Context, notes []registry.UploadNote, owners []string) ([]int64, error) {
	if err := registry.CheckUploadNotes(notes, owners); err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	now := time.Now()
	if c.uploads == nil {
		c.uploads = make(map[registry.UploadID]openUpload)
	}
	for _, n := range notes {
		if n.Owner == "" {
			delete(c.uploads, n.ID)
			continue
		}
		c.uploads[n.ID] = openUpload{n.Owner, now}
	}
	counts := make(map[string]int64)
	for id, u := range c.uploads {
		if now.Sub(u.touched) > registry.UploadLife {
			delete(c.uploads, id)
			continue
		}
		counts[u.owner]++
	}
	all := make([]int64, len(owners))
	for i, o := range owners {
		all[i] = counts[o]
	}
	return all, nil
}
