package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/berth-registry/berth/registry"
)

func (k keys) journal() string { return k.home + "journal/" }

// AddObject implements [blobstore.JournalDriver].
func (d *Driver) AddObject(ctx context.Context, name string, content []byte) error {
	key := d.keys.journal() + name
	if d.singleWriter { // such a server has no conditions
		d.single.Lock()
		defer d.single.Unlock()
		switch _, err := d.client.head(ctx, key); {
		case err == nil:
			return fs.ErrExist
		case !isNone(err):
			return err
		}
	}
	_, err := d.client.write(ctx, key, bytes.NewReader(content), int64(len(content)), condition{absent: !d.singleWriter})
	if errors.Is(err, errChanged) {
		return fs.ErrExist
	}
	return unavailable(err)
}

// ReadObject implements [blobstore.JournalDriver].
func (d *Driver) ReadObject(ctx context.Context, name string) ([]byte, error) {
	key := d.keys.journal() + name
	h, err := d.client.head(ctx, key)
	if err == nil && h.size > 2*registry.MaxJournalObject {
		return nil, registry.ErrDigestInvalid.Because(fmt.Errorf("%s has %d bytes: it is no object of a journal", key, h.size))
	}
	var c io.ReadCloser
	if err == nil {
		c, err = d.client.open(ctx, key, h.size, 0, h.size)
	}
	if isNone(err) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// Objects implements [blobstore.JournalDriver].
func (d *Driver) Objects(ctx context.Context, after string, limit int) ([]string, error) {
	prefix := d.keys.journal()
	if after != "" {
		after = prefix + after
	}
	var names []string
	for {
		page, more, err := d.client.list(ctx, prefix, after, limit)
		if err != nil {
			return nil, unavailable(err)
		}
		for _, o := range page {
			after = o.key
			if name := strings.TrimPrefix(o.key, prefix); registry.IsJournalName(name) {
				if names = append(names, name); len(names) == limit {
					return names, nil
				}
			}
		}
		if !more || len(page) == 0 {
			return names, nil
		}
	}
}

// RemoveObject implements [blobstore.JournalDriver].
func (d *Driver) RemoveObject(ctx context.Context, name string) error {
	return unknownIsGone(d.client.remove(ctx, d.keys.journal()+name))
}
