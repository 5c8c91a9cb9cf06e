package registry

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// NewUploadID returns a fresh ID born at t, which has millisecond precision.
func NewUploadID(t time.Time) UploadID {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	ms := uint64(t.UnixMilli())
	binary.BigEndian.PutUint16(b[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(ms))
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80

	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return UploadID(s[:])
}

// ParseUploadID returns s as an UploadID, or [ErrUploadUnknown]: an ID that we
// did not make names no session.
func ParseUploadID(s string) (UploadID, error) {
	if len(s) != 36 || s[14] != '7' || strings.IndexByte("89ab", s[19]) < 0 {
		return "", ErrUploadUnknown
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return "", ErrUploadUnknown
			}
		default:
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
				return "", ErrUploadUnknown
			}
		}
	}
	return UploadID(s), nil
}

// Time returns when the ID was made. It is the zero time for a string that
// [ParseUploadID] refuses.
func (id UploadID) Time() time.Time {
	if _, err := ParseUploadID(string(id)); err != nil {
		return time.Time{}
	}
	var b [8]byte
	hex.Decode(b[2:6], []byte(id[0:8]))
	hex.Decode(b[6:8], []byte(id[9:13]))
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
}
