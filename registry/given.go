package registry

import (
	"io"
	"os"
)

// GivenFile is a reader for [Uploads.Commit] of bytes that lie in a file which its
// owner has no use for any more. A blobstore that keeps blobs on the same file system
// may take the file itself instead of a copy: it is gone from its name then, also if
// the commit fails. All others read it. Nobody writes to the file from then on; who
// has it open may go on reading.
type GivenFile struct {
	*io.SectionReader
	File *os.File
	Len  int64 // bytes, which is all of the file
}

// NewGivenFile gives away a file of size bytes.
func NewGivenFile(f *os.File, size int64) *GivenFile {
	return &GivenFile{io.NewSectionReader(f, 0, size), f, size}
}
