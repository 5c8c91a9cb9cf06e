package config

import (
	"os"
	"strings"
	"testing"
)

// TestReadme checks that the files in the documentation are good for the
// programs that are said to read them.
func TestReadme(t *testing.T) {
	for file, programs := range map[string][]Program{
		"README.md":   {AllInOne, OnlyGateway, OnlyBlobstore, OnlyMetadata},
		"docs/api.md": {AllInOne, OnlyBlobstore, OnlyMetadata},
	} {
		b, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		_, text, found := strings.Cut(string(b), "```json\n")
		text, _, closed := strings.Cut(text, "```")
		if !found || !closed {
			t.Fatalf("%s has no JSON in it", file)
		}
		c := mustParse(t, file+".json", text)
		if warnings, err := c.Unbuilt(nil); len(warnings) > 0 || err != nil {
			t.Errorf("%s: got %v, %v", file, warnings, err)
		}
		for _, p := range programs {
			if err := c.ValidateFor(p); err != nil {
				t.Errorf("%s, program %d: %v", file, p, err)
			}
		}
	}
}
