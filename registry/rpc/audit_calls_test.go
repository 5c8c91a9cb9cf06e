package rpc

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/memory"
)

// ruled returns a catalog where the named user looks after everything.
func ruled(t testing.TB, admin string) registry.Catalog {
	t.Helper()
	p, err := access.Compile(&registry.AccessRules{
		AdminPolicy: &registry.AccessPolicy{Users: []string{admin}, Actions: []string{"read", "create", "update", "delete"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return memory.NewCatalog(memory.CatalogOptions{Access: p})
}

// steered is a mirror that counts what it is told.
type steered struct {
	registry.Mirror
	calls int
}

func (s *steered) MirrorRules(context.Context) ([]registry.MirrorRule, error) {
	s.calls++
	return nil, nil
}
func (s *steered) Fills(context.Context) ([]registry.Fill, error) { s.calls++; return nil, nil }
func (s *steered) Explain(context.Context, registry.Name) ([]string, error) {
	s.calls++
	return nil, nil
}
func (s *steered) Presence(context.Context, registry.Name, registry.Page[registry.Tag]) (registry.List[registry.TagPresence], error) {
	s.calls++
	return registry.List[registry.TagPresence]{}, nil
}
func (s *steered) Examine(context.Context, string) ([]registry.MirrorCheck, error) {
	s.calls++
	return nil, nil
}
func (s *steered) Forwards(context.Context, registry.ForwardQuery) ([]registry.Forward, error) {
	s.calls++
	return nil, nil
}
func (s *steered) Reforward(context.Context, string) error     { s.calls++; return nil }
func (s *steered) DropForward(context.Context, int64) error    { s.calls++; return nil }
func (s *steered) Trigger(context.Context, string) error       { s.calls++; return nil }
func (s *steered) Pause(context.Context, string, bool) error   { s.calls++; return nil }
func (s *steered) Forget(context.Context, registry.Name) error { s.calls++; return nil }

// TestOnlyAdministratorsSteerMirrors: a certificate of automation is no right to look
// at mirrors or to steer them, with rules for others or with none.
func TestOnlyAdministratorsSteerMirrors(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	server := named(t, ca, "syncer")
	for name, test := range map[string]struct {
		rights registry.Access
		client string
		may    bool
	}{
		"an administrator":       {ruled(t, "ci.example.org"), "ci.example.org", true},
		"not an administrator":   {ruled(t, "boss"), "ci.example.org", false},
		"no rules":               {memory.NewCatalog(memory.CatalogOptions{}), "ci.example.org", false},
		"nobody to ask":          {nil, "ci.example.org", false},
		"a gateway for somebody": {ruled(t, "boss"), "gateway", true},
	} {
		t.Run(name, func(t *testing.T) {
			local := new(steered)
			address := overNetwork(t, ServerOptions{Security: server}, func(srv *grpc.Server) { ServeMirror(srv, local, test.rights) })
			m := NewMirror(connect(t, address, DialOptions{Security: named(t, ca, test.client), Server: Syncer}))
			ctx := t.Context()
			calls := map[string]func() error{
				"rules": func() error { _, err := m.MirrorRules(ctx); return err },
				"fills": func() error { _, err := m.Fills(ctx); return err },
				"presence": func() error {
					_, err := m.Presence(ctx, "a/b", registry.Page[registry.Tag]{Limit: 1})
					return err
				},
				"explain": func() error { _, err := m.Explain(ctx, "a/b"); return err },
				"examine": func() error { _, err := m.Examine(ctx, "r"); return err },
				"forwards": func() error {
					_, err := m.Forwards(ctx, registry.ForwardQuery{Limit: 1})
					return err
				},
				"reforward": func() error { return m.Reforward(ctx, "r") },
				"drop":      func() error { return m.DropForward(ctx, 1) },
				"trigger":   func() error { return m.Trigger(ctx, "r") },
				"pause":     func() error { return m.Pause(ctx, "r", true) },
				"forget":    func() error { return m.Forget(ctx, "a/b") },
			}
			for what, call := range calls {
				if err := call(); (err == nil) != test.may || err != nil && !errors.Is(err, registry.ErrDenied) {
					t.Errorf("%s: %v", what, err)
				}
			}
			want := 0
			if test.may {
				want = len(calls)
			}
			if local.calls != want {
				t.Errorf("the mirror was called %d times, want %d", local.calls, want)
			}
		})
	}
}

// TestAutomationNeedsRules: a catalog that has no rules does nothing for a client whose
// certificate says no more than that it may call.
func TestAutomationNeedsRules(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	local := memory.NewCatalog(memory.CatalogOptions{})
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "metadata")}, func(srv *grpc.Server) { ServeCatalog(srv, local) })
	for who, trusted := range map[string]bool{"ci.example.org": false, "gateway": true} {
		c := NewCatalog(connect(t, address, DialOptions{Security: named(t, ca, who), Server: Metadata}))
		if err := c.PutUser(t.Context(), registry.Actor{}, registry.User{ID: "robot", Service: true}); (err == nil) != trusted {
			t.Errorf("%s makes a user: %v", who, err)
		}
		may, err := c.Allowed(t.Context(), registry.Actor{}, "a/b", registry.ActDelete)
		if err != nil || (may != 0) != trusted {
			t.Errorf("%s may %s, %v", who, may, err)
		}
		if _, err := c.Tags(t.Context(), registry.Actor{}, "a/b", registry.Page[registry.Tag]{Limit: 1}); trusted == errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("%s lists tags: %v", who, err)
		}
	}
}

// TestEveryCallOfAutomationIsAudited: what automation may call either leaves an event
// or only reads.
func TestEveryCallOfAutomationIsAudited(t *testing.T) {
	for method, roles := range methods {
		name := path.Base(method)
		reads := strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "Check") || strings.HasPrefix(name, "Explain") || strings.HasPrefix(name, "Search")
		if roles&Automation != 0 && roles != anybody && !reads && audited[method] == "" {
			t.Errorf("%s changes something, and leaves no event", method)
		}
	}
	for method := range audited {
		if methods[method] == noRole {
			t.Errorf("there is no method %s", method)
		}
	}
}

// events returns what was recorded, without times and identities, the first first.
func events(t *testing.T, c registry.Catalog) []registry.AuditEvent {
	t.Helper()
	l, err := c.AuditLog(t.Context(), registry.Actor{System: true}, registry.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]registry.AuditEvent, len(l.Items))
	for i, e := range l.Items {
		if !registry.ValidAuditID(e.ID) || e.At == 0 {
			t.Errorf("%+v has no time", e)
		}
		e.ID, e.At = "", 0
		all[len(all)-1-i] = e
	}
	return all
}

// TestAutomationIsAudited: what a client with a certificate does, or tries to, leaves
// an event, and what a gateway does for its users does not: it has recorded that.
func TestAutomationIsAudited(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	local := ruled(t, "ci.example.org")
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "metadata", "syncer"), Audit: local}, func(srv *grpc.Server) {
		ServeCatalog(srv, local)
		ServeMirror(srv, new(steered), local)
	})
	dial := func(who string) (registry.Catalog, registry.Mirror) {
		conn := connect(t, address, DialOptions{Security: named(t, ca, who), Server: Metadata})
		return NewCatalog(conn), NewMirror(conn)
	}
	ctx, none := t.Context(), registry.Actor{ID: "root"}
	good, mirror := dial("ci.example.org")
	bad, _ := dial("other.example.org")
	for _, err := range []error{
		good.PutUser(ctx, none, registry.User{ID: "robot", Service: true}),
		good.AddCredential(ctx, none, registry.Credential{Kind: registry.APIKey, ID: "k", Owner: "robot"}, []byte("hash")),
		mirror.Pause(ctx, "quay", true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = bad.DeleteTag(ctx, none, "a/b", "v1", registry.Condition{})
	_, _ = good.Users(ctx, none, registry.Page[string]{Limit: 1})
	gateway, _ := dial("gateway")
	if err := gateway.PutUser(ctx, registry.Actor{ID: "ci.example.org"}, registry.User{ID: "other", Service: true}); err != nil {
		t.Fatal(err)
	}
	of := func(actor, action, object string, status int, result string) registry.AuditEvent {
		return registry.AuditEvent{Actor: actor, Source: "127.0.0.1", Action: action, Object: object, Status: status, Result: result}
	}
	want := []registry.AuditEvent{
		of("ci.example.org", "user.put", "robot", 200, "ok"),
		of("ci.example.org", "apikey.create", "robot/k", 200, "ok"),
		of("ci.example.org", "mirror.pause", "quay", 200, "ok"),
		of("other.example.org", "manifest.delete", "a/b:v1", 403, "DENIED"),
		of("ci.example.org", "admin.read", "ListUsers", 200, "ok"),
	}
	if diff := cmp.Diff(want, events(t, local)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestOwnerIsAudited: commands by way of the control socket leave events with the user
// of the machine who gave them.
func TestOwnerIsAudited(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	local := memory.NewCatalog(memory.CatalogOptions{})
	u, err := ControlUnit(t.Context(), root, memory.NewBlobs(), local, nil, nil, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- u.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(u.Stop(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	})
	c, err := DialControl(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Catalog.PutUser(t.Context(), registry.Actor{}, registry.User{ID: "robot", Service: true}); err != nil {
		t.Fatal(err)
	}
	want := []registry.AuditEvent{{Actor: "uid:" + strconv.Itoa(os.Getuid()), Source: "control socket", Action: "user.put", Object: "robot", Status: 200, Result: "ok"}}
	if diff := cmp.Diff(want, events(t, local)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
