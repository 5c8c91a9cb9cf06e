package htpasswd

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// Hashes of known passwords: by htpasswd(1), openssl passwd, and the vectors of
// the SHA crypt specification.
var vectors = []struct{ password, hash string }{
	{"Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
	{"Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
	{"Hello world!", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."},
	{"pw1", "$5$abcdefgh$039Hv/0gWTexVhFwOZ16ap1QTskv.omwfoTWcF1l/O9"},
	{"pw6", "$6$abcdefgh$AmG/p6USYTDnD0i9OnzSKPHywtVj65aAr9wlivj4RTvOTk7KtUVA.oTYWoSPriFBc8/GpWmBT82/SO.3ziVE2/"},
	{"a longer password with more than sixty-four bytes in it, for the repeated parts", "$6$abcdefghijklmnop$DWJNAqFqzu3/BvRXw2In7IKYVX7zgSxhIsTAN3fO7S6cZhZ/6XTITa.zkQjDLe5StWRTTYQliGaNA1iCcj2I5."},
	{"", "$6$rounds=1000$s$u6h1nDplZjxDo4zJTtL/gDw7SGioQGm.0uRtQXjSgB6lTpGGOfGi4A6UMV.7Q7d2K2ppsidkHUrit0FKUiAv71"},
	{"a", "$2y$05$gOZc95zWUFfEtbZm1.uEveTjUbOkN86N/GCrh3q1UB9wZzL2A7wku"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		u, err := Parse([]byte("# users\n\nalice:" + v.hash + "\r\n"))
		if err != nil {
			t.Errorf("%s: %v", v.hash, err)
			continue
		}
		if !u.Verify("alice", v.password) || u.Verify("alice", v.password+"x") || u.Verify("bob", v.password) {
			t.Errorf("%s: matches what it must not, or not what it must", v.hash)
		}
	}
}

// TestS045FilesThatAreRefused: nothing of a file counts that is wrong somewhere, or
// that would have a login take for ever. What is said of it names no hash.
func TestS045FilesThatAreRefused(t *testing.T) {
	const good = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
	bcrypt := func(cost string) string { return "$2y$" + cost + "$" + strings.Repeat("a", 53) }
	for name, test := range map[string]struct{ text, want string }{
		"no colon":       {"alice", "line 1: is not name:hash"},
		"no name":        {":" + good, "not name:hash"},
		"no hash":        {"alice:", "none of bcrypt"},
		"plain text":     {"alice:password", "none of bcrypt"},
		"MD5":            {"alice:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "none of bcrypt"},
		"SHA-1":          {"alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "none of bcrypt"},
		"twice":          {"alice:" + good + "\n# x\nalice:" + good, "line 3: the user has a line already"},
		"cost 31":        {"alice:" + bcrypt("31"), "at most 14"},
		"cost 15":        {"alice:" + bcrypt("15"), "at most 14"},
		"cost 3":         {"alice:" + bcrypt("03"), "malformed"},
		"short bcrypt":   {"alice:$2y$10$abc", "malformed"},
		"strange bcrypt": {"alice:" + bcrypt("10")[:59] + "!", "malformed"},
		"many rounds":    {"alice:$6$rounds=999999999$salt$" + strings.Repeat("a", 86), "too many rounds"},
		"no rounds":      {"alice:$6$rounds=x$salt$" + strings.Repeat("a", 86), "malformed"},
		"long salt":      {"alice:$5$" + strings.Repeat("s", 17) + "$" + strings.Repeat("a", 43), "malformed"},
		"cut off":        {"alice:" + good + "\nbob:" + good[:40], "line 2: the sha256-crypt hash is malformed"},
		"control":        {"al\x00ice:" + good, "control"},
		"a long name":    {strings.Repeat("a", 256) + ":" + good, "at most 255"},
		"a large file":   {strings.Repeat("#\n", MaxFile/2+1), "larger than"},
	} {
		u, err := Parse([]byte(test.text))
		if u != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "salt") || strings.Contains(err.Error(), "$2y$10")) {
			t.Errorf("%s: the error tells of the hash: %v", name, err)
		}
	}
	if u, err := Parse([]byte("alice:" + bcrypt("14"))); err != nil || u.Names()[0] != "alice" {
		t.Errorf("cost 14: %v", err)
	}
}

// TestS038OneHashWhateverTheAnswer: each question costs one hash of the cost that
// the file has, for users that are there and for others.
func TestS038OneHashWhateverTheAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"bcrypt":  "alice:$2y$05$gOZc95zWUFfEtbZm1.uEveTjUbOkN86N/GCrh3q1UB9wZzL2A7wku",
		"SHA-256": "alice:$5$rounds=1000$abc$" + strings.Repeat("a", 43),
		"SHA-512": "alice:$6$rounds=2000$abc$" + strings.Repeat("a", 86),
		"empty":   "# nobody",
	} {
		u, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want := hash{scheme: bcryptScheme, prefix: "$2y$", cost: DefaultCost}
		if h, ok := u.hashes["alice"]; ok {
			want = h.kind()
		}
		for _, who := range []string{"alice", "bob", ""} {
			for _, password := range []string{"a", "b", "", "\x00", strings.Repeat("p", 2000)} {
				var asked []hash
				u.check = func(h hash, p string) bool {
					asked = append(asked, h.kind())
					if len(p) > maxPassword {
						t.Errorf("%s: a password of %d bytes is hashed", name, len(p))
					}
					return true // whatever the hash says
				}
				got := u.Verify(who, password)
				if len(asked) != 1 || asked[0] != want {
					t.Errorf("%s: %q with %.10q: hashes %v, want one like %v", name, who, password, asked, want)
				}
				if right := u.hashes[who] != (hash{}) && len(password) <= maxPassword; got != right {
					t.Errorf("%s: %q with %.10q: %v", name, who, password, got)
				}
			}
		}
		if h := u.stand; h.scheme == bcryptScheme {
			if cost, err := bcrypt.Cost([]byte(h.text)); err != nil || cost != h.cost {
				t.Errorf("%s: the stand-in is no hash: %v", name, err)
			}
		}
		if u.stand.matches("") || u.stand.matches("a") {
			t.Errorf("%s: the stand-in matches", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add("alice:" + v.hash)
	}
	f.Add("# x\n\nalice:$2y$31$\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, name := range u.Names() {
			h := u.hashes[name]
			if CheckName(name) != nil || h.scheme == bcryptScheme && h.cost > maxCost || h.cost > maxRounds {
				t.Errorf("%q has %v", name, h)
			}
		}
		again, err := Parse(withLine([]byte(text), "alice", vectors[7].hash))
		if err != nil || again.hashes["alice"].text != vectors[7].hash {
			t.Errorf("a line is added: %v", err)
		}
	})
}
