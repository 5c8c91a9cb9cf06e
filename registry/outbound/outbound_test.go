package outbound

import (
	"strings"
	"testing"
)

// TestLongHost compares a host of 4 MB, which must cost no more than to read it.
func TestLongHost(t *testing.T) {
	long := strings.Repeat("ü", 2<<20)
	if got := canonical(long); got != long {
		t.Error("a host that is too long was converted")
	}
	if _, err := ParseRules([]string{long}, false); err == nil {
		t.Error("a host that is too long was taken into the rules")
	}
}
