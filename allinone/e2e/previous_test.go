//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPrevious runs the conformance suite on systems in which some programs are
// of the commit before and the others of this one, as while one is replaced by
// the other: expand and contract. BERTH_PREVIOUS names the commit (HEAD~1).
func TestPrevious(t *testing.T) {
	previous := buildPrevious(t)
	for _, old := range [][]string{
		{"berth-gateway"},
		{"berth-blobstore", "berth-metadata"},
		{"berth-blobstore"},
		{"berth-metadata"},
	} {
		t.Run(strings.Join(old, " and ")+" of the commit before", func(t *testing.T) {
			bin := map[string]string{}
			for _, name := range old {
				bin[name] = filepath.Join(previous, name)
			}
			s := Start(t, Options{Topology: Split, Bin: bin})
			for _, p := range s.Processes {
				if slices.Contains(old, p.Name) != strings.HasPrefix(p.Path, previous) {
					t.Fatalf("%s runs %s", p.Name, p.Path)
				}
			}
			got := runSuite(t, s, false)
			t.Logf("%s", got)
			if got.Tests < 960 || got.Failures != 0 || got.Errors != 0 || got.Skipped != 0 || got.Disabled != 0 {
				t.Error("not everything passed")
			}
		})
	}
}

// buildPrevious builds the split programs of the commit before into a directory,
// from files of its own, so that nothing in this checkout changes.
func buildPrevious(t *testing.T) string {
	t.Helper()
	ref := os.Getenv("BERTH_PREVIOUS")
	if ref == "" {
		ref = "HEAD~1"
	}
	root := Root(t)
	commit, err := exec.Command("git", "-C", root, "rev-parse", "--verify", "--quiet", ref+"^{commit}").Output()
	if err != nil {
		t.Skipf("NOT RUN: there is no commit %s in this clone", ref)
	}
	source, bin := t.TempDir(), t.TempDir()
	run := func(command string) {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", command)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	run(fmt.Sprintf("git archive %s | tar -x -C %s", strings.TrimSpace(string(commit)), source))
	for _, service := range []string{"gateway", "blobstore", "metadata"} {
		run(fmt.Sprintf("go build -C %s -tags grpcnotrace -trimpath -o %s/berth-%s ./services/%s/cmd/berth-%s", source, bin, service, service, service))
	}
	t.Logf("the commit before is %.12s", commit)
	return bin
}
