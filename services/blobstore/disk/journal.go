package disk

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// unfinished is behind the name of an object that is being written. No object has
// such a name: there are no capital letters in one.
const unfinished = ".NEW"

func (d *Driver) journal() string { return d.home + "/journal" }

// AddObject implements [blobstore.JournalDriver].
func (d *Driver) AddObject(_ context.Context, name string, content []byte) error {
	d.adding.Lock()
	defer d.adding.Unlock()
	path := d.journal() + "/" + name
	switch _, err := d.fs.stat(path); {
	case err == nil:
		// The call that made it may not have come to the sync of its name, and whoever
		// repeats that call is told that all is well.
		if err := d.syncDirs(d.home, d.journal()); err != nil {
			return err
		}
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if !d.hasJournal {
		// That there is such a directory says nothing: one may have been made whose name
		// was not synced, for lack of space.
		if err := errors.Join(d.makeDir(d.journal()), d.syncDirs(d.home)); err != nil {
			return err
		}
		d.hasJournal = true
	}
	f, err := d.fs.open(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	err = d.writeObject(f, content)
	if err == nil {
		err = d.fs.rename(path+unfinished, path)
	}
	if err != nil {
		return errors.Join(err, notThere(d.fs.remove(path+unfinished)))
	}
	return d.syncDirs(d.journal())
}

func (d *Driver) writeObject(f file, content []byte) error {
	_, err := f.Write(content)
	if err == nil && d.durable {
		if err = d.fs.syncData(f); err != nil {
			err = &blobstore.SyncError{Op: "an object of the journal", Err: err}
		}
	}
	return errors.Join(err, f.Close())
}

// ReadObject implements [blobstore.JournalDriver].
func (d *Driver) ReadObject(_ context.Context, name string) ([]byte, error) {
	f, err := d.fs.open(d.journal()+"/"+name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 2*registry.MaxJournalObject)) // a longer one is not ours
}

// Objects implements [blobstore.JournalDriver].
func (d *Driver) Objects(_ context.Context, after string, limit int) ([]string, error) {
	dir, err := d.fs.open(d.journal(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Name() > after && !strings.HasSuffix(e.Name(), unfinished) && registry.IsJournalName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names[:min(limit, len(names))], nil
}

// RemoveObject implements [blobstore.JournalDriver].
func (d *Driver) RemoveObject(_ context.Context, name string) error {
	return notThere(d.fs.remove(d.journal() + "/" + name))
}
