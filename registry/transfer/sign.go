package transfer

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// The files that say what an export holds, and who says so. The first lists the
// hash of each index.json, and these name all content by digest.
const (
	manifestName  = "berth-export.json"
	signatureName = "berth-export.sig"
	maxManifest   = 64 << 20
)

// Key is a key of Ed25519 (RFC 8032).
type Key struct {
	public  ed25519.PublicKey
	private ed25519.PrivateKey // nil if it is there to verify
}

// ReadKey reads a private key (PKCS #8) or a public key (PKIX) in PEM, as openssl
// genpkey -algorithm ed25519 and openssl pkey -pubout write them.
func ReadKey(file string) (*Key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not a key in PEM", file)
	}
	var parsed any
	if strings.Contains(block.Type, "PRIVATE") {
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	} else {
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", file, err)
	}
	switch k := parsed.(type) {
	case ed25519.PrivateKey:
		return &Key{public: k.Public().(ed25519.PublicKey), private: k}, nil
	case ed25519.PublicKey:
		return &Key{public: k}, nil
	}
	return nil, fmt.Errorf("%s is not a key of Ed25519", file)
}

// manifest says what an export holds.
type manifest struct {
	Version int               `json:"version"` // 1
	Created string            `json:"created"` // RFC 3339
	Since   string            `json:"since,omitempty"`
	Layouts map[string]string `json:"layouts"` // the SHA-256 of index.json in hex, by directory

	binding bool // a signature was asked for and is good
}

// readManifest reads and verifies what the source says of itself. It returns a
// manifest that allows everything if no signature is asked for.
func readManifest(src files, verify *Key) (*manifest, error) {
	if verify == nil {
		return &manifest{}, nil
	}
	b, err := readAll(src, manifestName, maxManifest)
	if err != nil {
		return nil, notSigned(err)
	}
	text, err := readAll(src, signatureName, 1024)
	if err != nil {
		return nil, notSigned(err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || !ed25519.Verify(verify.public, b, signature) {
		return nil, errors.New("the signature of the source is not of this key: nothing was imported")
	}
	m := &manifest{binding: true}
	if err := json.Unmarshal(b, m); err != nil || m.Version != 1 {
		return nil, malformed("%s is of another version", manifestName)
	}
	return m, nil
}

func notSigned(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the source is not signed: nothing was imported")
	}
	return err
}

// check returns an error if an index is not the one that was signed.
func (m *manifest) check(dir string, index []byte) error {
	if !m.binding || m.Layouts[dir] == registry.SHA256.FromBytes(index).Encoded() {
		return nil
	}
	return fmt.Errorf("the index of %q is not the one that was signed: nothing was imported", dir)
}

// complete returns an error if something that was signed is missing.
func (m *manifest) complete(all []bundle) error {
	for dir := range m.Layouts {
		if m.binding && !slices.ContainsFunc(all, func(b bundle) bool { return b.dir == dir }) {
			return fmt.Errorf("%q, which was signed, is missing: nothing was imported", dir)
		}
	}
	return nil
}

// sign returns the signature of a manifest's bytes as text.
func (k *Key) sign(b []byte) []byte {
	return append([]byte(base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, b))), '\n')
}
