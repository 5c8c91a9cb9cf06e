package s3

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// keys makes the names of our objects, all of which begin with home.
type keys struct {
	bucket, home string // home ends with a slash
}

func newKeys(bucket, root string) keys {
	home := ".berth/"
	if root = strings.Trim(path.Clean("/"+root), "/"); root != "" {
		home = root + "/" + home
	}
	return keys{bucket: bucket, home: home}
}

// Kinds of copies, the first letter of a locator.
const (
	// named objects have their digest in the key: it was known before the first
	// byte went out.
	named = 'n'
	// anonymous objects have a random key, and an empty object that names it.
	anonymous = 'a'
)

// object is where the bytes of an upload are, or will be. The nonce makes it
// another object for each attempt, so that nothing is ever overwritten.
type object struct {
	kind  byte
	id    registry.UploadID
	nonce string // 16 hex digits
}

const nonceLen = 16

func newNonce() string {
	var b [nonceLen / 2]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// locator returns o as it is known outside of this package.
func (o object) locator() registry.Locator {
	return registry.Locator(string(o.kind) + "." + o.suffix())
}

func (o object) suffix() string { return string(o.id) + "." + o.nonce }

// parseLocator is the opposite of object.locator. Locators come over the
// network: only what we could have made leads to a key.
func parseLocator(l registry.Locator) (object, bool) {
	kind, rest, ok := strings.Cut(string(l), ".")
	if !ok || len(kind) != 1 || kind[0] != named && kind[0] != anonymous {
		return object{}, false
	}
	return parseSuffix(kind[0], rest)
}

func parseSuffix(kind byte, s string) (object, bool) {
	id, nonce, ok := strings.Cut(s, ".")
	if _, err := registry.ParseUploadID(id); err != nil || !ok || len(nonce) != nonceLen || !isHex(nonce) {
		return object{}, false
	}
	return object{kind: kind, id: registry.UploadID(id), nonce: nonce}, true
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// data returns the key of the bytes of o, which are those of blob d.
func (k keys) data(o object, d registry.Digest) string {
	if o.kind == named {
		return k.blobs() + digestPath(d) + o.suffix()
	}
	// The nonce comes first: ids begin with the time, and S3 spreads load by
	// the first letters that differ.
	return k.anonymous() + o.nonce + "." + string(o.id)
}

// copyKey returns the key of the bytes of a copy, false if there can be none.
func (k keys) copyKey(d registry.Digest, l registry.Locator) (string, bool) {
	o, ok := parseLocator(l)
	if _, err := registry.ParseDigest(d.String()); err != nil || !ok {
		return "", false
	}
	return k.data(o, d), true
}

// name returns the key of the empty object that says that the anonymous object
// o is a copy of d of size bytes.
func (k keys) name(o object, d registry.Digest, size int64) string {
	return k.names() + digestPath(d) + o.suffix() + "." + strconv.FormatInt(size, 10)
}

// sums returns the key of the checksums of the copy o of blob d.
func (k keys) sums(o object, d registry.Digest) string {
	return k.home + "sums/" + digestPath(d) + o.suffix()
}

func digestPath(d registry.Digest) string { return string(d.Algorithm()) + "/" + d.Encoded() + "/" }

func (k keys) blobs() string     { return k.home + "blobs/" }
func (k keys) anonymous() string { return k.home + "data/" }
func (k keys) names() string     { return k.home + "names/" }
func (k keys) uploads() string   { return k.home + "uploads/" }

// parseBlob reads a key below blobs().
func (k keys) parseBlob(key string) (registry.Stored, bool) {
	return parseCopy(named, strings.TrimPrefix(key, k.blobs()))
}

// parseName reads a key below names().
func (k keys) parseName(key string) (registry.Stored, bool) {
	rest := strings.TrimPrefix(key, k.names())
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return registry.Stored{}, false
	}
	s, ok := parseCopy(anonymous, rest[:i])
	size, err := strconv.ParseInt(rest[i+1:], 10, 64)
	s.Size = size
	return s, ok && err == nil && size >= 0 && strconv.FormatInt(size, 10) == rest[i+1:]
}

func parseCopy(kind byte, rest string) (registry.Stored, bool) {
	alg, rest, _ := strings.Cut(rest, "/")
	encoded, suffix, _ := strings.Cut(rest, "/")
	d, err := registry.ParseDigest(alg + ":" + encoded)
	o, ok := parseSuffix(kind, suffix)
	return registry.Stored{Digest: d, Locator: o.locator()}, err == nil && ok
}

// state returns the key of the state of an upload.
func (k keys) state(id registry.UploadID) string { return k.uploads() + string(id) + "/state" }

// parseState reads a key below uploads().
func (k keys) parseState(key string) (registry.UploadID, bool) {
	rest, ok := strings.CutSuffix(strings.TrimPrefix(key, k.uploads()), "/state")
	id, err := registry.ParseUploadID(rest)
	return id, ok && err == nil
}

// uploadOf returns the upload that the object of that key belongs to.
func (k keys) uploadOf(key string) (registry.UploadID, bool) {
	if s, ok := k.parseBlob(key); ok && strings.HasPrefix(key, k.blobs()) {
		o, _ := parseLocator(s.Locator)
		return o.id, true
	}
	rest, ok := strings.CutPrefix(key, k.anonymous())
	nonce, id, _ := strings.Cut(rest, ".")
	o, valid := parseSuffix(anonymous, id+"."+nonce)
	return o.id, ok && valid
}

// stampAt is where in an upload id its stamp begins.
const stampAt = 28

// newUploadID returns an id of this place that tells alg. Its last digits are
// a stamp: an upload with no state yet is known by its id alone, so that to
// start one costs no request.
func (k keys) newUploadID(born time.Time, alg registry.Algorithm) registry.UploadID {
	id := string(registry.NewUploadID(born))[:stampAt]
	return registry.UploadID(id + k.stamp(id, alg))
}

// algorithm returns what newUploadID was told, false if the id is not from here.
func (k keys) algorithm(id registry.UploadID) (registry.Algorithm, bool) {
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		if k.stamp(string(id[:stampAt]), alg) == string(id[stampAt:]) {
			return alg, true
		}
	}
	return "", false
}

func (k keys) stamp(id string, alg registry.Algorithm) string {
	if alg != registry.SHA512 {
		alg = registry.SHA256
	}
	sum := sha256.Sum256([]byte("berth upload\x00" + k.bucket + "\x00" + k.home + "\x00" + string(alg) + "\x00" + id))
	return hex.EncodeToString(sum[:4])
}
