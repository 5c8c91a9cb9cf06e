package disk

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

func stateAt(offset int64) blobstore.State {
	return blobstore.State{Offset: offset, Hashes: []blobstore.HashState{
		{Algorithm: registry.SHA256, State: bytes.Repeat([]byte{byte(offset)}, 108)},
		{Algorithm: registry.SHA512, State: bytes.Repeat([]byte{byte(offset + 1)}, 204)},
	}}
}

// slot is where the tests put a record.
func (r record) slot() int { return int(r.kind-kindSynced)*2 + int(r.number%2) }

// stateFile returns a state file with the given records.
func stateFile(records ...record) []byte {
	b := make([]byte, stateSize)
	for _, r := range records {
		slot := r.encode()
		copy(b[r.slot()*slotSize:], slot[:])
	}
	return b
}

func TestReadState(t *testing.T) {
	synced := func(n uint64, at int64) record {
		return record{kind: kindSynced, number: n, boot: boot1, state: stateAt(at)}
	}
	written := func(n uint64, at int64) record {
		return record{kind: kindWritten, number: n, boot: boot1, state: stateAt(at)}
	}
	tear := func(b []byte, r record) []byte {
		b = slices.Clone(b)
		b[r.slot()*slotSize+100] ^= 1
		return b
	}
	four := []record{synced(1, 10), synced(2, 20), written(3, 30), written(4, 40)}
	tests := map[string]struct {
		file          []byte
		size          int64
		boot          bootID
		safe, claimed int64
		damaged       bool
		beyond        int64
	}{
		"no file":                     {nil, 100, boot1, 0, 0, false, 0},
		"all slots":                   {stateFile(four...), 100, boot1, 20, 40, false, 0},
		"after a reboot":              {stateFile(four...), 100, boot2, 20, 0, false, 0},
		"boot unknown":                {stateFile(four...), 100, bootID{}, 20, 0, false, 0},
		"last written torn":           {tear(stateFile(four...), four[3]), 100, boot1, 20, 30, false, 0},
		"last synced torn":            {tear(stateFile(four...), four[1]), 100, boot1, 10, 40, false, 0},
		"only one, torn":              {tear(stateFile(four[0]), four[0]), 100, boot1, 0, 0, true, 0},
		"first record cut short":      {stateFile(four[0])[:slotSize+200], 100, boot1, 0, 0, false, 0},
		"file shorter than written":   {stateFile(four...), 35, boot1, 20, 30, false, 40},
		"file shorter than synced":    {stateFile(four...), 15, boot2, 10, 0, false, 20},
		"file empty":                  {stateFile(four...), 0, boot1, 0, 0, false, 40},
		"synced overtook what it had": {stateFile(written(3, 30), synced(4, 30)), 100, boot1, 30, 0, false, 0},
		"synced with an older state":  {stateFile(written(3, 30), synced(4, 20)), 100, boot1, 20, 30, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := readState(tt.file, tt.size, tt.boot)
			if s.Safe.Offset != tt.safe || s.Claimed.Offset != tt.claimed || s.damaged != tt.damaged || s.beyond != tt.beyond {
				t.Errorf("got safe %d, claimed %d, damaged %v, beyond %d; want %d, %d, %v, %d",
					s.Safe.Offset, s.Claimed.Offset, s.damaged, s.beyond, tt.safe, tt.claimed, tt.damaged, tt.beyond)
			}
			for _, got := range []blobstore.State{s.Safe, s.Claimed} {
				if got.Offset != 0 && !cmp.Equal(got, stateAt(got.Offset)) {
					t.Errorf("state differs: %s", cmp.Diff(got, stateAt(got.Offset)))
				}
			}
		})
	}
}

// Whatever order records of both kinds come in, also over a restart, and
// whichever is torn: the one of its kind before it is still there.
func TestTornRecordLeavesTheOneBefore(t *testing.T) {
	d, err := Open(t.TempDir(), Options{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, restart := range []bool{false, true} {
		id, up, err := d.Create(t.Context(), time.Now(), "")
		if err != nil {
			t.Fatal(err)
		}
		var before []byte
		last := map[kind]int64{}
		for i, c := range "SSSWSWSWWSSW" {
			offset := int64(10 * (i + 1))
			_, err := up.Write(t.Context(), make([]byte, 10))
			k, record := kindSynced, up.Sync
			if c == 'W' {
				k, record = kindWritten, up.Save
			}
			if err := errors.Join(err, record(stateAt(offset))); err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(d.statePath(id))
			if err != nil {
				t.Fatal(err)
			}
			torn := slices.Concat(after, make([]byte, stateSize-len(after)))
			for at := range torn {
				if at >= len(before) || torn[at] != before[at] {
					torn[at/slotSize*slotSize+100] ^= 1
					break
				}
			}
			got := readState(torn, offset, d.boot).Safe.Offset
			if k == kindWritten {
				got = max(got, readState(torn, offset, d.boot).Claimed.Offset)
			}
			if want := last[k]; got < want {
				t.Errorf("restart %v: record %d torn: got offset %d, want %d", restart, i+1, got, want)
			}
			last[k], before = offset, slices.Concat(after, make([]byte, stateSize-len(after)))
			if !restart {
				continue
			}
			up.Close()
			var s blobstore.Resumed
			if up, s, err = d.Resume(t.Context(), id, -1); err != nil {
				t.Fatal(err)
			}
			// As the store does with bytes that were merely written.
			if n := offset - s.Safe.Offset; n > 0 {
				if _, err := up.Write(t.Context(), make([]byte, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		up.Close()
	}
}

func TestParseBootID(t *testing.T) {
	const text = "9a0b1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3\n"
	if got := parseBootID(text); got[0] != 0x9a || got[15] != 0xc3 {
		t.Errorf("parseBootID(%q) = %x", text, got)
	}
	for _, s := range []string{"", "x", "9a0b", text + text} {
		if got := parseBootID(s); got != (bootID{}) {
			t.Errorf("parseBootID(%q) = %x, want none", s, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []record{{kind: kindSynced, number: 1, boot: boot1, state: stateAt(1)}, {kind: kindWritten, number: 2}} {
		b := r.encode()
		f.Add(b[:])
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == slotSize { // or nearly nothing would get past the checksum
			b = slices.Clone(b)
			sum := checksum(b[:slotSize-4])
			b[508], b[509], b[510], b[511] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		r, ok := decode(b)
		if !ok {
			return
		}
		if r.state.Offset < 0 || r.number == 0 {
			t.Fatalf("decoded %+v", r)
		}
		r.sums = checksum(nil) // made from the sums, which are in a file of their own
		again := r.encode()
		got, ok := decode(again[:])
		if !ok {
			t.Fatalf("%+v is written as what can't be read", r)
		}
		if diff := cmp.Diff(r, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Fatalf("written and read again: %s", diff)
		}
	})
}
