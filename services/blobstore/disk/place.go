package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/berth-registry/berth/registry"
)

// checkDir returns an error unless name is a directory, and no link to one, that
// others can't write to.
func (d *Driver) checkDir(name string) error {
	info, err := d.fs.stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%s must be a directory that others can't write to: it is %v", name, info.Mode())
	}
	return nil
}

// checkPlace looks at every directory that names of blobs, uploads and objects
// lead through. The last part of a name is never followed (see fsys), the parts
// before it would be: a link in their place would lead out of the root. It reads
// the names of at most 256 directories for each algorithm.
func (d *Driver) checkPlace() error {
	for _, name := range []string{d.blobs, d.uploads, d.journal(), d.blobs + "/" + string(registry.SHA256), d.blobs + "/" + string(registry.SHA512)} {
		if err := d.checkDir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		if err := d.checkShards(d.blobs + "/" + string(alg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkShards returns an error if there is a link in parent.
func (d *Driver) checkShards(parent string) error {
	dir, err := d.fs.open(parent, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s/%s must be a directory: it is a symbolic link", parent, e.Name())
		}
	}
	return err
}
