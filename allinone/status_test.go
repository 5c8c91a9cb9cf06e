package allinone

import (
	"encoding/json"
	"testing"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// The take-over of a registry that runs can be watched.
func TestStatusOfARunningRegistry(t *testing.T) {
	root := zotroot.Make(t, 6, 12)
	a := serveAdopted(t, root)
	control(t, root.Dir, memory.NewBlobs(), a.catalog)
	for {
		out, code := runAdopt(t, root, "status", "--json")
		var report adoptionReport
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 && code != exitFindings {
			t.Fatalf("%d %v: %s", code, err, out)
		}
		n := report.States[metadata.AdoptionTaken]
		if total := n + report.States[metadata.AdoptionWaits] + report.States[metadata.AdoptionBegun]; total > 13 {
			t.Fatalf("%d repositories: %s", total, out)
		}
		if n == 13 {
			if code != exitFindings || len(report.Leftovers) != 3 {
				t.Errorf("at the end: %d %s", code, out)
			}
			return
		}
	}
}
