package rest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func (a *asked) AuditLog(_ context.Context, who registry.Actor, _ registry.AuditQuery) (registry.List[registry.AuditEvent], error) {
	return registry.List[registry.AuditEvent]{}, a.note(who, "", "audit")
}

func (a *asked) ReadOnlys(_ context.Context, who registry.Actor) ([]registry.ReadOnly, error) {
	return nil, a.note(who, "", "read-only?")
}

func (a *asked) SetReadOnly(_ context.Context, who registry.Actor, r registry.ReadOnly) error {
	return a.note(who, "", "read-only "+r.Repositories)
}

func (a *asked) ClearReadOnly(_ context.Context, who registry.Actor, repositories string) error {
	return a.note(who, "", "not read-only "+repositories)
}

func (a *asked) Usage(_ context.Context, who registry.Actor, repo registry.Name) (registry.Usage, error) {
	return registry.Usage{}, a.note(who, repo, "usage")
}

// Maintenance is switched by requests, and tells who is refused why.
func TestMaintenance(t *testing.T) {
	base := newWorld(t).serve(t)
	for _, step := range []struct {
		request string
		status  int
		says    string
	}{
		{"GET /maintenance", 200, `{"readOnly":[]}`},
		{"POST /maintenance?repositories=a*&reason=moving", 200, `{}`},
		{"GET /maintenance", 200, `"repositories":"a*"`},
		{"DELETE /repositories/a/-/tags/v1", 405, "moving"},
		{"DELETE /maintenance?repositories=a*", 200, `{}`},
		{"DELETE /maintenance?repositories=a*", 200, `{}`},
		{"GET /maintenance", 200, `{"readOnly":[]}`},
		{"DELETE /repositories/a/-/tags/v1", 200, `{}`},
		{"POST /maintenance", 400, "ParameterInvalid"},
		{"POST /maintenance?repositories=[", 400, "ParameterInvalid"},
		{"POST /maintenance?repositories=a&reason=" + strings.Repeat("x", 501), 413, "TooLarge"},
		{"PUT /maintenance?repositories=a", 405, "Unsupported"},
		{"GET /repositories/a/-/usage", 200, `"unique":`},
		{"GET /repositories/nowhere/-/usage", 404, "NameUnknown"},
	} {
		method, path, _ := strings.Cut(step.request, " ")
		got := ask(t, method, base+path)
		if got.status != step.status || !strings.Contains(strings.ReplaceAll(got.body, ": ", ":"), step.says) {
			t.Errorf("%s: got %s, want %d with %s", step.request, fmt.Sprint(got.status, " ", got.body), step.status, step.says)
		}
	}
}
