package s3

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// record is the state of an upload: a header, and the bytes that do not fill a
// part yet.
//
//	 0  magic "BUS3"
//	 4  length of the header, big endian
//	 8  CRC-32C of the header
//	12  the header: a record as JSON, padded with spaces
//	    the tail
type record struct {
	// Writer is new for each record, so that who wrote it knows it again when
	// the answer got lost.
	Writer string `json:"writer"`

	// Of an upload that goes on:

	Offset int64                 `json:"offset"`
	Hashes []blobstore.HashState `json:"hashes,omitempty"`
	Sums   *blobstore.SumState   `json:"sums,omitempty"`
	// Object is where the multipart upload goes, Digest the digest in its key if
	// it is named.
	Object registry.Locator `json:"object,omitempty"`
	Digest registry.Digest  `json:"digest,omitempty"`
	// Multipart is S3's id of it, and Parts are the ETags of the parts.
	Multipart string   `json:"multipart,omitempty"`
	Parts     []string `json:"parts,omitempty"`
	Tail      int64    `json:"tail"`    // bytes behind the parts
	TailSum   uint32   `json:"tailSum"` // CRC-32C of them

	// Ended says how the upload ended, "" if it goes on. If it was published,
	// Object is the copy, of Digest and Offset bytes.
	Ended end `json:"ended,omitempty"`
}

type end string

const (
	published end = "published"
	aborted   end = "aborted"
)

const (
	recordMagic  = "BUS3"
	recordPrefix = 12
	// minLive is the least size of a record of an upload that goes on. Others
	// are smaller: a list tells the two apart.
	minLive = 1024
	// maxHeader bounds what is read as a header: 10,000 parts make 400 KB, and the
	// checksums of their chunks as much.
	maxHeader = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns r without its tail.
func (r record) encode() ([]byte, error) {
	h, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if r.Ended == "" {
		for len(h) < minLive {
			h = append(h, ' ')
		}
	} else if recordPrefix+len(h) >= minLive {
		return nil, errors.New("the record of an upload that has ended is too large")
	}
	b := make([]byte, recordPrefix, recordPrefix+len(h))
	copy(b, recordMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(h)))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(h, castagnoli))
	return append(b, h...), nil
}

var errRecord = errors.New("the state of an upload can't be read")

// readRecord reads a record of size bytes from r, up to its tail.
func readRecord(r io.Reader, size int64) (record, error) {
	var prefix [recordPrefix]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return record{}, notWhole(err)
	}
	n := int64(binary.BigEndian.Uint32(prefix[4:]))
	if string(prefix[:4]) != recordMagic || n > maxHeader || n > size-recordPrefix {
		return record{}, errRecord
	}
	h := make([]byte, n)
	if _, err := io.ReadFull(r, h); err != nil {
		return record{}, notWhole(err)
	}
	if crc32.Checksum(h, castagnoli) != binary.BigEndian.Uint32(prefix[8:]) {
		return record{}, errRecord
	}
	var rec record
	if err := json.Unmarshal(bytes.TrimRight(h, " "), &rec); err != nil {
		return record{}, errors.Join(errRecord, err)
	}
	if !rec.sane(size - recordPrefix - n) {
		return record{}, errRecord
	}
	return rec, nil
}

// notWhole tells a record that is too short from one that could not be read.
func notWhole(err error) error {
	if err == io.EOF {
		return errRecord
	}
	return err
}

// sane reports whether the numbers of r, which has a tail of so many bytes, fit
// together.
func (r record) sane(tail int64) bool {
	switch r.Ended {
	case published:
		_, ok := parseLocator(r.Object)
		_, err := registry.ParseDigest(r.Digest.String())
		return ok && err == nil && r.Offset >= 0 && tail == 0
	case aborted:
		return tail == 0
	case "":
	default:
		return false
	}
	if r.Object != "" {
		if _, ok := parseLocator(r.Object); !ok {
			return false
		}
	}
	before := int64(len(r.Parts)) * partSize
	return r.Tail == tail && tail >= 0 && tail < partSize && r.Offset == before+tail &&
		len(r.Parts) <= maxParts && (len(r.Parts) == 0 || r.Multipart != "" && r.Object != "")
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
