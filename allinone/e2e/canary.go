package e2e

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// canary begins the secrets that the tests make up.
const canary = "cAnArY"

// password returns the password of a user, or of a program.
func password(user string) string { return canary + "-" + user }

// secrets matches what none of our programs may write: the secrets that tests make up
// or that stand in zot's guide, as they are and in base64, and those that programs make
// themselves: API keys, sessions and codes, tokens, states of uploads, keys, signatures
// of URLs, headers and parameters that carry any of them.
var secrets = regexp.MustCompile(strings.Join([]string{
	canary, encoded(canary), "secretpassword", "cipassword", "devpassword", "sync-password", regexp.QuoteMeta(pgtest.Password), `\b` + regexp.QuoteMeta(s3test.SecretKey) + `\b`,
	`\b(zak|zse|zrt|zdc)_[0-9A-Za-z_-]{8}`,
	`\beyJ[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16}`,
	`_state=[^*]`,
	`PRIVATE KEY-----`,
	`X-Amz-Signature=[0-9a-f]`,
	`(?i:basic|bearer) [0-9A-Za-z+/=._~-]{20}`,
	`[?&](code|password|client_secret|device_code|access_token|refresh_token|id_token)=[^*&"]`,
}, "|"))

// encoded returns a pattern of word in the middle of something in base64: the digits
// that depend on nothing but word, wherever it begins.
func encoded(word string) string {
	var forms []string
	for before := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + word))
		from := (before*8 + 5) / 6
		to := (before + len(word)) * 8 / 6
		forms = append(forms, regexp.QuoteMeta(text[from:to]))
	}
	return strings.Join(forms, "|")
}

// leak returns the first line of a text with a secret in it, or "".
func leak(text string) string {
	at := secrets.FindStringIndex(text)
	if at == nil {
		return ""
	}
	begin := strings.LastIndexByte(text[:at[0]], '\n') + 1
	line, _, _ := strings.Cut(text[begin:], "\n")
	return line
}
