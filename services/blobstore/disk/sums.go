package disk

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// sumsSuffix ends the name of the file with the checksums of a copy, which lies
// beside it. It makes no locator, so the file is no copy.
const sumsSuffix = ".sums"

// Sums implements [blobstore.Driver].
func (d *Driver) Sums(_ context.Context, s registry.Stored) (blobstore.Sums, error) {
	name, ok := d.copyPath(s.Digest, s.Locator)
	if !ok {
		return nil, nil
	}
	f, err := d.fs.open(name+sumsSuffix, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readUpTo(f, blobstore.SumsLength(s.Size)+1)
	if err != nil {
		return nil, nil //nolint:nilerr // what can't be read is made again
	}
	return blobstore.DecodeSums(b, s), nil
}

// KeepSums implements [blobstore.Driver].
func (d *Driver) KeepSums(_ context.Context, s registry.Stored, sums blobstore.Sums) error {
	name, ok := d.copyPath(s.Digest, s.Locator)
	if !ok {
		return nil
	}
	if err := d.writeSums(name, s, sums); err != nil {
		return err
	}
	// It may have been removed meanwhile.
	if _, err := d.fs.stat(name); errors.Is(err, fs.ErrNotExist) {
		return notThere(d.fs.remove(name + sumsSuffix))
	}
	return nil
}

// writeSums writes the checksums of the copy s, which is in the file name. A
// reader who finds half of them has none.
func (d *Driver) writeSums(name string, s registry.Stored, sums blobstore.Sums) error {
	f, err := d.fs.open(name+sumsSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(sums.Encode(s), 0)
	return errors.Join(err, f.Close())
}

// putSums writes the checksums of s that are not in the state file yet. The
// caller holds u.mu.
func (u *upload) putSums(s blobstore.State) error {
	if s.Sums == nil || int64(len(s.Sums.Done)) <= 4*u.sums {
		return nil
	}
	if _, err := u.state.WriteAt(s.Sums.Done[4*u.sums:], stateSize+4*u.sums); err != nil {
		return err
	}
	u.sums = int64(len(s.Sums.Done)) / 4
	return nil
}

// loadSums completes what the records of a state file say of checksums. Those
// that are not what a record says of them are not known: the upload goes on
// without.
func (u *upload) loadSums(s *saved) error {
	for i, state := range []*blobstore.State{&s.Safe, &s.Claimed} {
		if state.Sums == nil {
			continue
		}
		done := make([]byte, 4*(state.Offset/blobstore.ChunkSize))
		if _, err := u.state.ReadAt(done, stateSize); err != nil && err != io.EOF {
			return err
		}
		if checksum(done) != s.sums[i] {
			state.Sums = nil
			continue
		}
		state.Sums.Done = done
	}
	if s.Safe.Sums != nil {
		u.sums = int64(len(s.Safe.Sums.Done)) / 4
	}
	return nil
}
