package htpasswd

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxFile is how many bytes a file may have.
const MaxFile = 8 << 20

// maxPassword is how many bytes a password may have: the cost of SHA crypt grows
// with its length (compare CVE-2016-20013).
const maxPassword = 1024

// Users are the users of one file. They never change, and may be used by many
// goroutines.
type Users struct {
	generation string
	hashes     map[string]hash
	// stand is checked in place of the hash of a user that is not there, so that
	// the time an answer takes does not tell who is. Nothing matches it.
	stand hash
	check func(h hash, password string) bool // hash.matches, counted by tests
}

// Parse reads a file's text. An error names the line, and no hash.
func Parse(text []byte) (*Users, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("the file is larger than %d bytes", MaxFile)
	}
	sum := sha256.Sum256(text)
	u := &Users{generation: hex.EncodeToString(sum[:]), hashes: make(map[string]hash), check: hash.matches}
	kinds := make(map[hash]int) // how often a scheme and cost is used
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		name, h, err := parseLine(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if name == "" {
			continue
		}
		if _, twice := u.hashes[name]; twice {
			return nil, fmt.Errorf("line %d: the user has a line already", n)
		}
		u.hashes[name] = h
		kinds[h.kind()]++
	}
	usual, most := hash{scheme: bcryptScheme, prefix: "$2y$", cost: DefaultCost}, 0
	for k, count := range kinds {
		if count > most || count == most && k.cost > usual.cost {
			usual, most = k, count
		}
	}
	u.stand = usual.standIn()
	return u, nil
}

// parseLine returns the user of a line, "" if there is none.
func parseLine(line string) (name string, h hash, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", hash{}, nil
	}
	name, text, ok := strings.Cut(line, ":")
	if !ok || name == "" {
		return "", hash{}, fmt.Errorf("is not name:hash")
	}
	if err := CheckName(name); err != nil {
		return "", hash{}, err
	}
	if h, err = parseHash(text); err != nil {
		return "", hash{}, err
	}
	return name, h, nil
}

// maxName is how many bytes a user name may have.
const maxName = 255

// CheckName returns an error unless name can be a user's.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a user needs a name")
	case len(name) > maxName:
		return fmt.Errorf("a user name has at most %d bytes", maxName)
	case strings.ContainsRune(name, ':'):
		return fmt.Errorf("a user name has no colon")
	case name[0] == '#', strings.TrimSpace(name) != name:
		return fmt.Errorf("a user name begins with no #, and has no space around it")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("a user name has no control characters")
	}
	return nil
}

// Generation tells contents of the file apart.
func (u *Users) Generation() string { return u.generation }

// Names returns the users, sorted.
func (u *Users) Names() []string { return slices.Sorted(maps.Keys(u.hashes)) }

// Has reports whether there is a user of a name.
func (u *Users) Has(name string) bool { _, ok := u.hashes[name]; return ok }

// Scheme returns how the user's password is hashed, for people.
func (u *Users) Scheme(name string) string { return u.hashes[name].String() }

// Verify reports whether name is a user and password is theirs. It computes one
// hash whatever the answer is.
func (u *Users) Verify(name, password string) bool {
	h, known := u.hashes[name]
	if !known {
		h = u.stand
	}
	tooLong := len(password) > maxPassword
	if tooLong {
		password = password[:maxPassword]
	}
	right := u.check(h, password)
	return right && known && !tooLong
}

// randomText returns n characters of an alphabet.
func randomText(alphabet string, n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
