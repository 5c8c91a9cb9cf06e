package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxForeign bounds how many names HoldsForeignLayout looks at.
const maxForeign = 1000

// HoldsForeignLayout returns the path of a file below root that shows that
// another registry keeps its content there: zot's database, or a directory in
// the OCI image layout (image-spec, image-layout.md), which is what each
// repository of zot is. It returns "" if it finds none, also if there is no
// root. It looks at no more than 1,000 names, those at the top first.
func HoldsForeignLayout(root string) (string, error) {
	for _, name := range []string{"cache.db", "meta.db"} {
		path := filepath.Join(root, name)
		if found, err := exists(path); found || err != nil {
			return path, err
		}
	}
	budget := maxForeign
	for queue := []string{root}; len(queue) > 0 && budget > 0; queue = queue[1:] {
		if path, err := imageLayout(queue[0]); path != "" || err != nil {
			return path, err
		}
		entries, err := firstNames(queue[0], budget)
		if err != nil {
			return "", err
		}
		budget -= len(entries)
		for _, e := range entries {
			// No component of a repository's name begins with these.
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "_") {
				queue = append(queue, filepath.Join(queue[0], e.Name()))
			}
		}
	}
	return "", nil
}

// firstNames returns at most n entries of a directory that may be missing or
// closed to us.
func firstNames(dir string, n int) ([]fs.DirEntry, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(n)
	if err == io.EOF {
		err = nil
	}
	return entries, err
}

// imageLayout returns the path of dir's index if dir is an OCI image layout.
func imageLayout(dir string) (string, error) {
	for _, name := range []string{"oci-layout", "index.json"} {
		if found, err := exists(filepath.Join(dir, name)); !found || err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "index.json"), nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	return err == nil, err
}
