//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/allinone/zotroot"
)

// TestAdoptSplit serves a directory of zot by services apart, with mutual TLS: the
// take-over begins by itself, all can be pulled, berth status tells of it, and zot's
// tree stays what it was.
func TestAdoptSplit(t *testing.T) {
	root := zotroot.Make(t, 5, 40)
	before, hot := zotroot.Snapshot(t, root.Dir), zotroot.Snapshot(t, root.Hot)
	s := Start(t, Options{Topology: SplitTLS, Dir: root.Dir, Edit: func(config map[string]any) {
		config["storage"].(map[string]any)["subPaths"] = map[string]any{"/hot": map[string]any{"rootDirectory": root.Hot}}
	}})
	root.Check(t, s.URL())
	gateway := s.of("gateway")[0]
	for {
		var report struct {
			Running bool           `json:"running"`
			States  map[string]int `json:"states"`
		}
		out, err := exec.Command(Program(t, "berth"), "status", "--json", gateway.Args[len(gateway.Args)-1]).Output() // exit code 1: some have problems
		if failed := json.Unmarshal(out, &report); failed != nil || !report.Running {
			t.Fatalf("status: %v, %v\n%s", failed, err, out)
		}
		if report.States["taken"] == 13 && len(report.States) == 1 {
			break
		}
	}
	for dir, want := range map[string]map[string]string{root.Dir: before, root.Hot: hot} {
		if diff := cmp.Diff(want, zotroot.Snapshot(t, dir)); diff != "" {
			t.Errorf("%s: zot's tree is not what it was:\n%s", dir, diff)
		}
	}
}
