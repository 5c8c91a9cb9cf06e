package vulndb

import (
	"fmt"
	"os"
)

// Private makes a directory for the owner of the process, if there is none of that
// name. One that others can write to is an error, and so is a link to one: they could
// put another database there, or read what is in images.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%s must be a directory that others can't write to: it is %v", dir, info.Mode())
	}
	return nil
}
