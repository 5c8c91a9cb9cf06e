package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/metadata"
)

// The take-over of a registry that runs can be watched.
func TestStatusOfARunningRegistry(t *testing.T) {
	root := zotroot.Make(t, 6, 12)
	a := serveAdopted(t, root)
	unit, err := rpc.ControlUnit(t.Context(), root.Dir, memory.NewBlobs(), a.catalog, nil, nil, rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if unit.Start != nil {
		if err := unit.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- unit.Run() }()
	defer func() {
		if err := errors.Join(unit.Stop(context.WithoutCancel(t.Context())), <-ended); err != nil {
			t.Error(err)
		}
	}()
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
