package blobstore

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/berth-registry/berth/registry"
)

// ChunkSize is how many bytes of a blob one checksum is about.
const ChunkSize = 1 << 20

// Sums are the CRC-32C of each chunk of a blob, four bytes each in big endian.
// The last chunk may be shorter than the others. They let any part of a blob be
// checked without the rest; the digest stays what says whether it is the blob.
type Sums []byte

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunks returns how many chunks size bytes have.
func chunks(size int64) int64 { return (size + ChunkSize - 1) / ChunkSize }

// chunk returns the checksum of the chunk that begins at offset at.
func (s Sums) chunk(at int64) uint32 { return binary.BigEndian.Uint32(s[at/ChunkSize*4:]) }

// A list as drivers keep it, integers in big endian:
//
//	 0  magic "BCS1"
//	 4  size of the blob
//	12  the checksums
//	    CRC-32C of all before, and then of the digest and the locator: a list in
//	    the place of another one is no list
const (
	sumsMagic  = "BCS1"
	sumsHeader = 12
)

// SumsLength returns how many bytes the list of a blob of size bytes takes.
func SumsLength(size int64) int64 { return sumsHeader + 4*chunks(size) + 4 }

// Encode returns the list of the copy b for a driver to keep.
func (s Sums) Encode(b registry.Stored) []byte {
	out := make([]byte, sumsHeader, SumsLength(b.Size))
	copy(out, sumsMagic)
	binary.BigEndian.PutUint64(out[4:], uint64(b.Size))
	out = append(out, s...)
	return binary.BigEndian.AppendUint32(out, sealOf(out, b))
}

// DecodeSums returns the list of the copy b that a driver kept as p, nil if it
// is not that or can't be believed.
func DecodeSums(p []byte, b registry.Stored) Sums {
	if b.Size < 0 || int64(len(p)) != SumsLength(b.Size) || string(p[:4]) != sumsMagic ||
		int64(binary.BigEndian.Uint64(p[4:])) != b.Size {
		return nil
	}
	end := len(p) - 4
	if binary.BigEndian.Uint32(p[end:]) != sealOf(p[:end], b) {
		return nil
	}
	return Sums(p[sumsHeader:end:end])
}

func sealOf(p []byte, b registry.Stored) uint32 {
	sum := crc32.Update(crc32.Checksum(p, castagnoli), castagnoli, []byte(b.Digest))
	return crc32.Update(sum, castagnoli, []byte("\x00"+string(b.Locator)))
}

// SumState is how far the checksums of an upload have come: those of its
// complete chunks, and that of the bytes behind them.
type SumState struct {
	Done    Sums   `json:"done,omitempty"`
	Partial uint32 `json:"partial"`
}

// summer makes the checksums of bytes that arrive in order.
type summer struct {
	done    Sums
	partial uint32
	open    int // bytes behind the last complete chunk
}

// write adds p.
func (s *summer) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), ChunkSize-s.open)
		s.partial = crc32.Update(s.partial, castagnoli, p[:n])
		s.open += n
		p = p[n:]
		if s.open == ChunkSize {
			s.done = binary.BigEndian.AppendUint32(s.done, s.partial)
			s.partial, s.open = 0, 0
		}
	}
}

// save returns the state of s. Bytes written later don't change it.
func (s *summer) save() *SumState {
	if s == nil {
		return nil
	}
	return &SumState{Done: s.done[:len(s.done):len(s.done)], Partial: s.partial}
}

// sums returns the list of all that was written.
func (s *summer) sums() Sums {
	if s.open == 0 {
		return s.done
	}
	return binary.BigEndian.AppendUint32(s.done[:len(s.done):len(s.done)], s.partial)
}

// restoreSums returns the summer that was saved after offset bytes, nil if saved
// is not of so many.
func restoreSums(saved *SumState, offset int64) *summer {
	if offset == 0 {
		return new(summer)
	}
	if saved == nil || int64(len(saved.Done)) != offset/ChunkSize*4 {
		return nil
	}
	return &summer{done: saved.Done[:len(saved.Done):len(saved.Done)], partial: saved.Partial, open: int(offset % ChunkSize)}
}

func sameSums(a, b *SumState) bool {
	return a == nil || b == nil || a.Partial == b.Partial && string(a.Done) == string(b.Done)
}
