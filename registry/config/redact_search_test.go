package config

import (
	"strings"
	"testing"
)

// TestRedactedAddresses: passwords and tokens in addresses are not told.
func TestRedactedAddresses(t *testing.T) {
	c := Defaults()
	c.Extensions = &Extensions{
		Search: &Search{CVE: &CVE{Trivy: &Trivy{DBRepository: "user:hush@host/trivy-db"}}},
		Events: &Events{Sinks: []Sink{{Address: "https://user:hush@host/hook?token=hush"}}},
	}
	if text := c.String(); strings.Contains(text, "hush") || !strings.Contains(text, "@host/trivy-db") || !strings.Contains(text, "@host/hook?") {
		t.Error(text)
	}
}
