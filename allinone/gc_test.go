package allinone

import (
	"strings"
	"testing"
)

// What is deleted by command comes back by command, until it is purged; on a
// stopped store.
func TestDeleteAndUndeleteCommands(t *testing.T) {
	file, cfg := configured(t, "")
	digests := pushed(t, cfg, "team/app", []string{"v1", "v2"})
	run := func(want int, args ...string) string {
		t.Helper()
		out, code, err := berth(t, args...)
		if code != want {
			t.Fatalf("%v: exit code %d (%v), want %d\n%s", args, code, err, want, out)
		}
		return oneBlank(out)
	}
	has := func(out string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("%q is not in:\n%s", text, out)
			}
		}
	}
	byDigest := "team/app@" + digests["v2"]
	has(run(0, "delete", file, byDigest), byDigest+" deleted")
	has(run(0, "delete", file, "team/app:v1"), "deleted")
	run(1, "delete", file, "team/app:v1")
	has(run(0, "undelete", "--list", file), byDigest+" v2", "team/app:v1 -")
	has(run(0, "gc", "--dry-run", file), "manifest team/app "+digests["v1"], "no tag points to it")
	has(run(0, "undelete", file, byDigest, "team/app:v1"), byDigest+" restored", "team/app:v1 restored")
	run(1, "undelete", file, byDigest)

	run(0, "delete", file, "team/app")
	run(1, "tag", "history", file, "team/app:v1")
	has(run(0, "undelete", "--list", "--json", file), `"repository":"team/app"`)
	run(0, "undelete", file, "team/app")
	has(run(0, "tag", "history", file, "team/app:v1"), digests["v1"])

	run(0, "delete", file, "team/app")
	run(0, "purge", file)
	run(1, "undelete", file, "team/app")
	has(run(0, "gc", "--json", file), `"repositories":`)
	run(0, "fsck", file)
	run(2, "undelete", file)
	run(2, "purge", file, "Not A Name")
}
