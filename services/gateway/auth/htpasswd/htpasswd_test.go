package htpasswd

import (
	"strings"
	"testing"
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

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"alice": "not name:hash",
		":$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8": "not name:hash",
		"a:plain": "none of bcrypt",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
