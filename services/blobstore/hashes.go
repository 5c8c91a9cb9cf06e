package blobstore

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"fmt"
	"hash"

	"github.com/berth-registry/berth/registry"
)

// hashes are the hashes and the checksums made of an upload while its bytes
// arrive. What is nil is not made.
type hashes struct {
	sha256, sha512 hash.Hash
	sums           *summer
}

// newHashes returns hashes of no bytes: SHA-256 always, alg if it is another.
func newHashes(alg registry.Algorithm) hashes {
	h := hashes{sha256: sha256.New(), sums: new(summer)}
	if alg == registry.SHA512 {
		h.sha512 = sha512.New()
	}
	return h
}

func newHash(alg registry.Algorithm) hash.Hash {
	if alg == registry.SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

func (h hashes) write(p []byte) {
	if h.sha256 != nil {
		h.sha256.Write(p)
	}
	if h.sha512 != nil {
		h.sha512.Write(p)
	}
	if h.sums != nil {
		h.sums.write(p)
	}
}

// list returns the checksums of an upload of size bytes, nil if it needs none: a
// blob of one chunk is checked by its digest.
func (h hashes) list(size int64) Sums {
	if h.sums == nil || size <= ChunkSize {
		return nil
	}
	return h.sums.sums()
}

// of returns the hash for alg, nil if there is none.
func (h hashes) of(alg registry.Algorithm) hash.Hash {
	if alg == registry.SHA512 {
		return h.sha512
	}
	return h.sha256
}

// save returns the state of the hashes after offset bytes.
func (h hashes) save(offset int64) (State, error) {
	s := State{Offset: offset, Sums: h.sums.save()}
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		hash := h.of(alg)
		if hash == nil {
			continue
		}
		b, err := hash.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return State{}, fmt.Errorf("saving the state of a %s: %w", alg, err)
		}
		s.Hashes = append(s.Hashes, HashState{Algorithm: alg, State: b})
	}
	return s, nil
}

// restore returns the hashes that s holds. One that is not in it, or that this
// version of Go can't read, is nil.
func restore(s State) hashes {
	h := hashes{sums: restoreSums(s.Sums, s.Offset)}
	for _, saved := range s.Hashes {
		hash := newHash(saved.Algorithm)
		if hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(saved.State) != nil {
			continue
		}
		switch saved.Algorithm {
		case registry.SHA256:
			h.sha256 = hash
		case registry.SHA512:
			h.sha512 = hash
		}
	}
	return h
}

// sameHashes reports whether a and b are states after the same bytes.
func sameHashes(a, b State) bool {
	if a.Offset != b.Offset || len(a.Hashes) == 0 || len(a.Hashes) != len(b.Hashes) {
		return false
	}
	for i, h := range a.Hashes {
		if h.Algorithm != b.Hashes[i].Algorithm || !bytes.Equal(h.State, b.Hashes[i].State) {
			return false
		}
	}
	return sameSums(a.Sums, b.Sums)
}
