package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// A state file has four slots of one disk sector each: two for states that were
// synced, two for states that were merely written. Records of a kind take turns
// in their two slots, so that one that is torn leaves the one before intact.
//
// A slot, integers in big endian:
//
//	 0  magic "BUS1"
//	 4  kind, 1 synced, 2 written
//	 5  number of hashes
//	 6  1 if the checksums of the bytes are known, else 0; then 0
//	 8  number of the record, counted from 1
//	16  offset
//	24  boot id, 16 bytes
//	40  per hash: algorithm (1 SHA-256, 2 SHA-512), length of the state, the state
//	500 CRC-32C of the checksums of complete chunks, which lie behind the slots
//	504 checksum of the bytes behind the last complete chunk
//	508 CRC-32C of bytes 0 to 507
//
// The checksums behind the slots are common to all records: those of a record are
// the first so many.
const (
	slotSize  = 512
	slots     = 4
	stateSize = slots * slotSize

	slotMagic  = "BUS1"
	slotHeader = 40
	slotSums   = 500
)

// kind says what a record is worth after a crash.
type kind byte

const (
	kindSynced  kind = 1 // the bytes it counts survive loss of power
	kindWritten kind = 2 // they are in the page cache: they survive as long as the kernel
)

// record is what a slot holds.
type record struct {
	kind   kind
	number uint64
	boot   bootID // the kernel that had the bytes, for kindWritten
	state  blobstore.State
	sums   uint32 // CRC-32C of state.Sums.Done, if there is a state.Sums
}

// bootID names a run of the kernel. The zero bootID equals none.
type bootID [16]byte

// readBootID returns the ID of the running kernel, or the zero bootID if it
// can't be told: then only synced bytes are believed after a restart.
func readBootID() bootID {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return bootID{}
	}
	return parseBootID(string(b))
}

func parseBootID(s string) bootID {
	var id bootID
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(id) {
		return bootID{}
	}
	return bootID(b)
}

// turns are which slot of each kind the next record of that kind goes to, 0 or
// 1: not the one that holds the record to fall back to.
type turns [2]int64

func (t *turns) of(k kind) *int64 { return &t[k-kindSynced] }

// slot returns the index of the slot that the next record of kind k goes to.
func (t *turns) slot(k kind) int64 { return int64(k-kindSynced)*2 + *t.of(k) }

// encode returns r as a slot. Hashes that don't fit are left out: they can be
// made again.
func (r record) encode() [slotSize]byte {
	var b [slotSize]byte
	copy(b[:], slotMagic)
	b[4] = byte(r.kind)
	binary.BigEndian.PutUint64(b[8:], r.number)
	binary.BigEndian.PutUint64(b[16:], uint64(r.state.Offset))
	copy(b[24:], r.boot[:])
	at := slotHeader
	for _, h := range r.state.Hashes {
		code := algorithmCode(h.Algorithm)
		if code == 0 || len(h.State) > 255 || at+2+len(h.State) > slotSums {
			continue
		}
		b[at], b[at+1] = code, byte(len(h.State))
		at += 2 + copy(b[at+2:], h.State)
		b[5]++
	}
	if sums := r.state.Sums; sums != nil {
		b[6] = 1
		binary.BigEndian.PutUint32(b[slotSums:], checksum(sums.Done))
		binary.BigEndian.PutUint32(b[slotSums+4:], sums.Partial)
	}
	binary.BigEndian.PutUint32(b[slotSize-4:], checksum(b[:slotSize-4]))
	return b
}

// decode returns the record in slot b, false if there is none that is whole.
func decode(b []byte) (record, bool) {
	if len(b) != slotSize || string(b[:4]) != slotMagic ||
		binary.BigEndian.Uint32(b[slotSize-4:]) != checksum(b[:slotSize-4]) {
		return record{}, false
	}
	r := record{
		kind:   kind(b[4]),
		number: binary.BigEndian.Uint64(b[8:]),
		boot:   bootID(b[24:40]),
		state:  blobstore.State{Offset: int64(binary.BigEndian.Uint64(b[16:]))},
	}
	if r.kind != kindSynced && r.kind != kindWritten || r.state.Offset < 0 || r.number == 0 {
		return record{}, false
	}
	if b[6] == 1 {
		r.sums = binary.BigEndian.Uint32(b[slotSums:])
		r.state.Sums = &blobstore.SumState{Partial: binary.BigEndian.Uint32(b[slotSums+4:])}
	}
	rest := b[slotHeader:slotSums]
	for range b[5] {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return record{}, false
		}
		alg := algorithmOf(rest[0])
		if alg == "" {
			return record{}, false
		}
		n := 2 + int(rest[1])
		r.state.Hashes = append(r.state.Hashes, blobstore.HashState{Algorithm: alg, State: rest[2:n:n]})
		rest = rest[n:]
	}
	return r, true
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func algorithmCode(a registry.Algorithm) byte {
	switch a {
	case registry.SHA256:
		return 1
	case registry.SHA512:
		return 2
	}
	return 0
}

func algorithmOf(code byte) registry.Algorithm {
	switch code {
	case 1:
		return registry.SHA256
	case 2:
		return registry.SHA512
	}
	return ""
}

// saved is what a state file says.
type saved struct {
	blobstore.Resumed
	number  uint64 // of the latest record
	turns   turns
	sums    [2]uint32 // what the checksums of Safe and Claimed add up to
	damaged bool      // there are records, and none is whole
	beyond  int64     // the largest offset a record counts that the file has not, 0 if none
}

// readState reads a state file b of an upload of size bytes. Records that count
// more bytes than there are, and those of another kernel that were not synced,
// are passed over.
func readState(b []byte, size int64, boot bootID) saved {
	var s saved
	var safe, claimed record
	whole, torn := 0, 0
	for i := 0; i+slotSize <= min(len(b), stateSize); i += slotSize {
		r, ok := decode(b[i : i+slotSize])
		if !ok {
			if !bytes.Equal(b[i:i+slotSize], make([]byte, slotSize)) {
				torn++
			}
			continue
		}
		whole++
		s.number = max(s.number, r.number)
		if r.kind == kindWritten && (r.boot != boot || boot == bootID{}) {
			continue
		}
		if r.state.Offset > size {
			s.beyond = max(s.beyond, r.state.Offset)
			continue
		}
		switch {
		case r.kind == kindSynced && r.number > safe.number:
			safe = r
		case r.kind == kindWritten && r.number > claimed.number:
			claimed = r
		default:
			continue
		}
		*s.turns.of(r.kind) = 1 - int64(i/slotSize%2)
	}
	s.damaged = torn > 0 && whole == 0
	s.sums = [2]uint32{safe.sums, claimed.sums}
	s.Safe = safe.state
	if claimed.state.Offset > safe.state.Offset {
		s.Claimed = claimed.state
	}
	return s
}
