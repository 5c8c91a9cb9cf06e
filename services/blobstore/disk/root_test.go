package disk

import (
	"path/filepath"
	"testing"
)

// TestRootBelowNothing makes a root directory with all that is above it: each of these
// is a name that must survive loss of power, or all that is stored goes with it.
func TestRootBelowNothing(t *testing.T) {
	top := t.TempDir()
	fs := newFaultFS()
	d, err := open(filepath.Join(top, "a", "b", "c"), Options{Durable: true}, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, dir := range []string{"", "a", "a/b", "a/b/c", "a/b/c/.berth"} {
		if len(fs.names[filepath.Join(top, dir)]) == 0 {
			t.Errorf("the names in %q were not synced", dir)
		}
	}
}
