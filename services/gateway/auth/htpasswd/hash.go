package htpasswd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// DefaultCost is the bcrypt cost of new hashes, and of the hash computed for
// unknown users of a file without any.
const DefaultCost = 10

const (
	// maxCost bounds bcrypt: cost 14 takes about a second, each further one twice
	// as long, and 31 a day.
	maxCost = 14
	// maxRounds bounds SHA crypt: about half a second.
	maxRounds = 1_000_000
)

type scheme string

const (
	bcryptScheme scheme = "bcrypt"
	sha256Scheme scheme = "sha256-crypt"
	sha512Scheme scheme = "sha512-crypt"
)

// hash is a password hash.
type hash struct {
	scheme scheme
	prefix string // of bcrypt: $2y$
	cost   int    // of bcrypt; rounds of SHA crypt
	salt   string // of SHA crypt
	text   string // bcrypt: all of it; SHA crypt: the hash alone
}

func (h hash) String() string {
	if h.scheme == bcryptScheme {
		return fmt.Sprintf("bcrypt, cost %d", h.cost)
	}
	return fmt.Sprintf("%s, %d rounds", h.scheme, h.cost)
}

// kind is all that decides how long a check takes.
func (h hash) kind() hash { return hash{scheme: h.scheme, prefix: h.prefix, cost: h.cost} }

var errScheme = errors.New("the hash is none of bcrypt, SHA-256 and SHA-512 crypt ($2a$, $2b$, $2y$, $5$, $6$)")

func parseHash(text string) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "$5$"):
		return parseSHA(sha256Scheme, text[3:])
	case strings.HasPrefix(text, "$6$"):
		return parseSHA(sha512Scheme, text[3:])
	}
	return hash{}, errScheme
}

// The alphabets of crypt(3): bcrypt's own base64, and that of all others.
const (
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	shaAlphabet    = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// bcryptLength is that of a whole hash: $2y$10$, 22 characters of salt, 31 of hash.
const bcryptLength = 60

func parseBcrypt(text string) (hash, error) {
	if len(text) != bcryptLength || text[6] != '$' || strings.Trim(text[7:], bcryptAlphabet) != "" {
		return hash{}, errors.New("the bcrypt hash is malformed")
	}
	cost, err := strconv.Atoi(text[4:6])
	switch {
	case err != nil || cost < bcrypt.MinCost:
		return hash{}, errors.New("the bcrypt hash is malformed")
	case cost > maxCost:
		return hash{}, fmt.Errorf("the bcrypt cost is %d; at most %d is allowed, because every login would take so long", cost, maxCost)
	}
	return hash{scheme: bcryptScheme, prefix: text[:4], cost: cost, text: text}, nil
}

// matches reports whether password is the one. It takes as long as h asks for.
func (h hash) matches(password string) bool {
	switch h.scheme {
	case bcryptScheme:
		// bcrypt looks at 72 bytes, as does htpasswd(1).
		return bcrypt.CompareHashAndPassword([]byte(h.text), []byte(password)) == nil
	case sha256Scheme, sha512Scheme:
		return h.matchesSHA(password)
	}
	return false
}

// standIn returns a hash of kind h that nothing matches.
func (h hash) standIn() hash {
	switch h.scheme {
	case bcryptScheme:
		// The last character of salt and hash have unused bits, which must be zero.
		h.text = fmt.Sprintf("%s%02d$%s.%s.", h.prefix, h.cost, randomText(bcryptAlphabet, 21), randomText(bcryptAlphabet, 30))
	default:
		h.salt, h.text = randomText(shaAlphabet, maxSalt), strings.Repeat("/", shaLength[h.scheme])
	}
	return h
}

// Hash returns a bcrypt hash of password for a line of a file.
func Hash(password string, cost int) (string, error) {
	if cost > maxCost {
		return "", fmt.Errorf("cost %d is too high; at most %d is allowed", cost, maxCost)
	}
	b, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	return "$2y$" + string(b[4:]), nil // as htpasswd(1) and zot's guide have it
}
