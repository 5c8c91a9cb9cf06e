package sqlite

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// renewAll is how large a database is at most that is written anew as a whole: one that
// has just been made.
const renewAll = 1 << 20

// renew has those files of a database written anew that an earlier process may have left
// when a failed fsync ended it: the log, and a database that has just been made. In a
// larger one nothing counts that is not in the log, too, until it was synced.
func (e Engine) renew(file string) error {
	if e.Renew == nil {
		return nil
	}
	info, err := os.Stat(file)
	if err == nil && info.Size() > 0 && info.Size() <= renewAll {
		err = e.Renew(file)
	}
	if err == nil {
		err = e.Renew(file + "-wal")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// renew writes the bytes of a file once more and syncs them. After an fsync that failed
// the kernel takes them for written, whether they are or not, and would not write
// them when the next process syncs the file. What comes to the disk in part, should
// power be lost now, is what was to be there.
func renew(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); err == nil; {
		var n int
		if n, err = f.ReadAt(buf, at); n > 0 {
			if _, werr := f.WriteAt(buf[:n], at); werr != nil {
				err = werr
			}
		}
		at += int64(n)
	}
	if err == io.EOF {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
