//go:build !linux

package disk

import "os"

const largeFile = 0

func syncData(f *os.File) error { return f.Sync() }
