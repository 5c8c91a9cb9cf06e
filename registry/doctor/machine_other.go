//go:build !linux

package doctor

import (
	"errors"
	"io/fs"
)

var errUnknown = errors.New("known on Linux only")

// FileLimit returns how many files this process may open.
func FileLimit() (uint64, error) { return 0, errUnknown }

// Synchronized reports whether the kernel thinks its clock is kept right.
func Synchronized() (bool, error) { return false, errUnknown }

func fileSystem(string) (free, size, freeFiles uint64, bad string, err error) {
	return 0, 0, 0, "", errUnknown
}

func owner(fs.FileInfo) (uid int, device uint64) { return -1, 0 }
