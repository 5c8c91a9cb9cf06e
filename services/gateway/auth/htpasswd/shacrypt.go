package htpasswd

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	stdhash "hash"
	"strconv"
	"strings"
)

// SHA crypt is "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, 2007, which
// the numbers of steps below refer to.
const (
	defaultRounds = 5000
	minRounds     = 1000
	maxSalt       = 16
)

// shaLength is how many characters a hash has.
var shaLength = map[scheme]int{sha256Scheme: 43, sha512Scheme: 86}

func parseSHA(s scheme, text string) (hash, error) {
	malformed := errors.New("the " + string(s) + " hash is malformed")
	h := hash{scheme: s, cost: defaultRounds}
	if rest, ok := strings.CutPrefix(text, "rounds="); ok {
		number, rest, ok := strings.Cut(rest, "$")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return hash{}, malformed
		}
		if n > maxRounds {
			return hash{}, errors.New("the " + string(s) + " hash asks for too many rounds; at most " + strconv.Itoa(maxRounds) + " are allowed")
		}
		h.cost, text = max(n, minRounds), rest
	}
	salt, sum, ok := strings.Cut(text, "$")
	if !ok || len(salt) > maxSalt || len(sum) != shaLength[s] || strings.Trim(sum, shaAlphabet) != "" {
		return hash{}, malformed
	}
	h.salt, h.text = salt, sum
	return h, nil
}

func (h hash) matchesSHA(password string) bool {
	sum := shaCrypt(h.scheme, []byte(password), []byte(h.salt), h.cost)
	return subtle.ConstantTimeCompare([]byte(sum), []byte(h.text)) == 1
}

// shaCrypt returns the hash without scheme, rounds and salt.
func shaCrypt(s scheme, password, salt []byte, rounds int) string {
	newHash, order := sha256.New, sha256Order
	if s == sha512Scheme {
		newHash, order = sha512.New, sha512Order
	}
	b := digest(newHash, password, salt, password) // 4-8
	size := len(b)
	h := newHash() // 1-3
	h.Write(password)
	h.Write(salt)
	h.Write(repeated(b, len(password)))      // 9-10
	for n := len(password); n > 0; n >>= 1 { // 11
		if n&1 != 0 {
			h.Write(b)
		} else {
			h.Write(password)
		}
	}
	a := h.Sum(nil) // 12
	h.Reset()       // 13-15
	for range password {
		h.Write(password)
	}
	p := repeated(h.Sum(nil), len(password)) // 16
	h.Reset()                                // 17-19
	for range 16 + int(a[0]) {
		h.Write(salt)
	}
	salted := repeated(h.Sum(nil), len(salt)) // 20
	for i := range rounds {                   // 21
		h.Reset()
		if i&1 != 0 {
			h.Write(p)
		} else {
			h.Write(a)
		}
		if i%3 != 0 {
			h.Write(salted)
		}
		if i%7 != 0 {
			h.Write(p)
		}
		if i&1 != 0 {
			h.Write(a)
		} else {
			h.Write(p)
		}
		a = h.Sum(a[:0])
	}
	return encode(a[:size], order) // 22
}

func digest(newHash func() stdhash.Hash, parts ...[]byte) []byte {
	h := newHash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// repeated returns n bytes of b, again and again.
func repeated(b []byte, n int) []byte {
	out := make([]byte, 0, n+len(b))
	for len(out) < n {
		out = append(out, b...)
	}
	return out[:n]
}

// sha256Order and sha512Order return which three bytes the i-th group of four
// characters is made of; -1 is none.
func sha256Order(i int) (hi, mid, lo int) {
	if i == 10 {
		return -1, 31, 30
	}
	// 0 10 20, 21 1 11, 12 22 2, 3 13 23, ...
	group := [3][3]int{{0, 10, 20}, {21, 1, 11}, {12, 22, 2}}[i%3]
	return group[0] + i/3*3, group[1] + i/3*3, group[2] + i/3*3
}

func sha512Order(i int) (hi, mid, lo int) {
	if i == 21 {
		return -1, -1, 63
	}
	// 0 21 42, 22 43 1, 44 2 23, 3 24 45, ...
	group := [3][3]int{{0, 21, 42}, {22, 43, 1}, {44, 2, 23}}[i%3]
	return group[0] + i/3*3, group[1] + i/3*3, group[2] + i/3*3
}

// encode writes groups of three bytes as four characters, the lowest six bits
// first; a group that lacks bytes is shorter.
func encode(sum []byte, order func(i int) (hi, mid, lo int)) string {
	out := make([]byte, 0, 88)
	for i := 0; i*3 < len(sum); i++ {
		v, n := uint(0), 0
		hi, mid, lo := order(i)
		for _, at := range []int{hi, mid, lo} {
			if at >= 0 {
				v = v<<8 | uint(sum[at])
				n++
			}
		}
		for range n + 1 {
			out = append(out, shaAlphabet[v&63])
			v >>= 6
		}
	}
	return string(out)
}
