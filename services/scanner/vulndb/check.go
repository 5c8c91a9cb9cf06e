package vulndb

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// guarded calls f. A database that is damaged makes its reader panic, or read outside
// of the file, which is an error here.
func guarded(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the vulnerability database is damaged: %v", v)
		}
	}()
	return f()
}

// check returns an error if a file is no database that can be looked up. If it is
// thorough it reads every page.
func check(file string, thorough bool) error {
	return guarded(func() (err error) {
		if thorough {
			if err := checkFile(file); err != nil {
				return err
			}
		}
		db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return db.View(func(tx *bolt.Tx) error {
			if thorough {
				if err := tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walk(b, 0) }); err != nil {
					return err
				}
			}
			// Trivy's code reads this one without asking whether it is there.
			if tx.Bucket([]byte("vulnerability")) == nil {
				return errors.New("it has no vulnerabilities")
			}
			return nil
		})
	})
}

// checkFile checks a file's structure before anything else reads it.
func checkFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkPages(f, info.Size())
}

// walk reads all that is in a bucket, in the goroutine that is guarded.
func walk(b *bolt.Bucket, depth int) error {
	if depth > 8 {
		return errors.New("its buckets lie in each other more than 8 deep")
	}
	return b.ForEach(func(k, v []byte) error {
		if v != nil {
			return nil
		}
		inner := b.Bucket(k)
		if inner == nil {
			return errors.New("a bucket is missing")
		}
		return walk(inner, depth+1)
	})
}
