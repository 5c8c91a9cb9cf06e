package auditlog

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
)

func event(action string) registry.AuditEvent {
	const at = 1_700_000_000_000_000
	return registry.AuditEvent{ID: registry.NewAuditID(at), At: at, Actor: "uid:0", Source: "control socket", Action: action, Object: "a/b", Status: 200, Result: "ok"}
}

// TestBoth: what a service records is a line of the file and an event of the catalog,
// before and after the file was rotated.
func TestBoth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	rotated := new(daemon.Rotation)
	file, closer, err := Open(path, rotated)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	c := memory.NewCatalog(memory.CatalogOptions{})
	to := Both(file, c)
	record := func(actions ...string) {
		t.Helper()
		var all []registry.AuditEvent
		for _, a := range actions {
			all = append(all, event(a))
		}
		if err := to.RecordAudit(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	record("gc.run")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := rotated.Reopen(); err != nil {
		t.Fatal(err)
	}
	record("purge", "user.put")
	var got []string
	for _, name := range []string{path + ".1", path} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			var e map[string]any
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			got = append(got, e["event"].(string)+" by "+e["subject"].(string)+" of "+e["target"].(string))
		}
	}
	want := []string{"gc.run by uid:0 of a/b", "purge by uid:0 of a/b", "user.put by uid:0 of a/b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file: -want +got\n%s", diff)
	}
	list, err := c.AuditLog(t.Context(), registry.Actor{System: true}, registry.AuditQuery{Limit: 10})
	if err != nil || len(list.Items) != len(want) {
		t.Errorf("the catalog has %v (%v)", list.Items, err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// TestBothWithoutFile: what the file does not take the catalog has, and the error says
// that the file has not.
func TestBothWithoutFile(t *testing.T) {
	c := memory.NewCatalog(memory.CatalogOptions{})
	if Both(nil, c) != registry.Audit(c) {
		t.Error("without a file there is something in between")
	}
	if err := Both(full{}, c).RecordAudit(t.Context(), []registry.AuditEvent{event("purge")}); err == nil {
		t.Error("a file that takes nothing is no error")
	}
	list, err := c.AuditLog(t.Context(), registry.Actor{System: true}, registry.AuditQuery{Limit: 10})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("the catalog has %v (%v)", list.Items, err)
	}
}
