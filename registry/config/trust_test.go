package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeylessSubjects: a pattern of a subject ends with whole parts of a URI: one that
// ends within a name is good for names that somebody else can have.
func TestKeylessSubjects(t *testing.T) {
	for subject, good := range map[string]bool{
		"https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main": true,
		"https://github.com/acme/app/.github/workflows/release.yml@*":               true,
		"https://github.com/acme/*":        true,
		"spiffe://example.com/*":           true,
		"alice@example.com":                true,
		"https://github.com/acme*":         false,
		"https://github.com/acme/app*":     false,
		"https://github.com*":              false,
		"https://*":                        false,
		"https:///*":                       false,
		"https:*":                          false,
		"alice@*":                          false,
		"alice*":                           false,
		"*@example.com":                    false,
		"*":                                false,
		"**":                               false,
		"":                                 false,
		"https://github.com/*/app/*":       false,
		"https://github.com/acme/**":       false,
		"https://github.com/acme/*@v1.0.0": false,
	} {
		file := filepath.Join(t.TempDir(), "c.json")
		text := fmt.Sprintf(`{"storage":{"rootDirectory":"/x"},"http":{"port":"5000"},"extensions":{"trust":{"cosign":true,"keyless":[
			{"authority":"/a","log":"/l","identities":[{"issuer":"https://i","subject":%q}]}]}}}`, subject)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := Load(file)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "identities[0].subject") {
			t.Errorf("%q: %v", subject, err)
		}
	}
}
