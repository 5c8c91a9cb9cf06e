package ctl

import (
	"strings"
	"testing"
)

// TestGarbageCommands: what is deleted is listed, comes back, and is given up.
func TestGarbageCommands(t *testing.T) {
	address, d := serve(t), string(sum(string(image)))
	for _, step := range []struct {
		args string
		code int
		says string // in the output or the error
	}{
		{"deleted", 0, "NAME"},
		{"delete team/app:v1", 0, "deleted team/app:v1"},
		{"undelete team/app:v1", 0, "restored team/app:v1"},
		{"undelete team/app:v1", exitRefused, "exists"},
		{"delete team/app:v2", 0, "deleted"},
		{"rollback team/app:v2 " + d, 0, "team/app:v2 points to " + d},
		{"rollback team/app " + d, 2, "REPO:TAG"},
		{"delete-repository team/app", 0, "deleted team/app"},
		{"delete-repository team/app:v1", 2, "must be a repository"},
		{"deleted --json", 0, `"repository":"team/app"`},
		{"undelete team/app", 0, "restored team/app"},
		{"tags team/app", 0, "latest"},
		{"delete-repository team/app", 0, "deleted"},
		{"purge *", 0, "purged *"},
		{"purge A", 2, "A"},
		{"undelete team/app", exitRefused, "name"},
		{"gc", 0, "removed 0 manifests"},
		{"plan --limit 3", 0, "WHY"},
		{"scrub", 0, "damaged"},
		{"damages", 0, "REPOSITORIES"},
	} {
		out, code, message := run(t, append(strings.Fields(step.args), "--metadata", address)...)
		if code != step.code || !strings.Contains(out+message, step.says) {
			t.Errorf("%s: code %d, %q, %q, want code %d and %q", step.args, code, out, message, step.code, step.says)
		}
	}
}
