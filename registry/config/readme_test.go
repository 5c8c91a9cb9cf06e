package config

import (
	"os"
	"strings"
	"testing"
)

// TestReadme checks that the file in the README is one for all programs.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "```json\n")
	text, _, closed := strings.Cut(text, "```")
	if !found || !closed {
		t.Fatal("the README has no JSON in it")
	}
	c := mustParse(t, "README.json", text)
	if warnings, err := c.Unbuilt(nil); len(warnings) > 0 || err != nil {
		t.Errorf("got %v, %v", warnings, err)
	}
	for _, p := range []Program{AllInOne, OnlyGateway, OnlyBlobstore, OnlyMetadata} {
		if err := c.ValidateFor(p); err != nil {
			t.Errorf("program %d: %v", p, err)
		}
	}
}
