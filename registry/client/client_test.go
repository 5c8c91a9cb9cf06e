package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
)

func TestDialRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"nothing":          {Options{}, "no address"},
		"plaintext away":   {Options{Metadata: []string{"192.0.2.1:7002"}}, "another machine"},
		"a name":           {Options{Blobstore: []string{"blobstore:7001"}}, "another machine"},
		"a target":         {Options{Metadata: []string{"dns:///localhost:7002"}}, "another machine"},
		"one of two":       {Options{Metadata: []string{"127.0.0.1:1", "10.0.0.1:1"}}, "another machine"},
		"no files":         {Options{Metadata: []string{"127.0.0.1:1"}, TLS: &TLS{Cert: "/none", Key: "/none", CACert: "/none"}}, "no such file"},
		"a bad list":       {Options{Metadata: []string{"127.0.0.1:1", "nonsense"}, Insecure: true}, "missing port"},
		"a bad other list": {Options{Metadata: []string{"127.0.0.1:1"}, Blobstore: []string{"127.0.0.1:1", "nonsense"}, Insecure: true}, "missing port"},
	} {
		if c, err := Dial(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
	for _, o := range []Options{
		{Metadata: []string{"localhost:1"}}, {Metadata: []string{"[::1]:1"}}, {Blobstore: []string{"192.0.2.1:1"}, Insecure: true},
	} {
		c, err := Dial(o)
		if err != nil {
			t.Errorf("%v: %v", o, err)
			continue
		}
		if (c.Catalog != nil) != (o.Metadata != nil) || (c.Blobs != nil) != (o.Blobstore != nil) {
			t.Errorf("%v: got %+v", o, c)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// serveTLS serves a catalog with the names of certificates that a config file has
// by default, and robots below example.org as automation.
func serveTLS(t *testing.T, ca *certstest.Authority, catalog registry.Catalog) string {
	t.Helper()
	f := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"metadata"}})
	security, err := rpc.Secure(config.Services{TLS: &config.MutualTLS{Cert: f.Cert, Key: f.Key, CACert: f.CA, Peers: config.Peers{
		Gateway: []string{"gateway"}, Metadata: []string{"metadata"}, Automation: []string{"*.example.org"},
	}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.ServerOptions{Security: security})
	rpc.ServeCatalog(srv, catalog)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

// TestS144Certificates: automation acts as the user its certificate names, not as
// the one it claims to be; and a client does not talk to the wrong server.
func TestS144Certificates(t *testing.T) {
	ca := certstest.NewAuthority(t, "ca")
	seen := &watchedCatalog{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	address := serveTLS(t, ca, seen)
	dial := func(ca *certstest.Authority, name string, servers ...string) error {
		f := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{name}})
		c, err := Dial(Options{Metadata: []string{address}, TLS: &TLS{Cert: f.Cert, Key: f.Key, CACert: f.CA, Metadata: servers}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, err = range Repositories(t.Context(), c.Catalog, registry.Actor{ID: "root"}) {
			break
		}
		return err
	}
	if err := dial(ca, "robot.example.org"); err != nil || seen.actor.ID != "robot.example.org" {
		t.Errorf("automation: %v, as %q", err, seen.actor.ID)
	}
	if err := dial(ca, "gateway"); err != nil || seen.actor.ID != "root" {
		t.Errorf("gateway: %v, as %q", err, seen.actor.ID)
	}
	for name, err := range map[string]error{
		"a client with no role":       dial(ca, "stranger"),
		"another authority":           dial(certstest.NewAuthority(t, "other"), "robot.example.org"),
		"a server with another name":  dial(ca, "robot.example.org", "meta.prod"),
		"a server that is no service": dial(ca, "robot.example.org", "blobstore"),
	} {
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// watchedCatalog notes who asked, and has one repository.
type watchedCatalog struct {
	registry.Catalog
	actor registry.Actor
}

func (w *watchedCatalog) Repositories(_ context.Context, a registry.Actor, _ registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	w.actor = a
	return registry.List[registry.Name]{Items: []registry.Name{"a"}}, nil
}

// TestWalk: pages of any size, an end in the middle, and errors.
func TestWalk(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	var fail error
	calls := 0
	list := func(size int) func(registry.Page[string]) (registry.List[string], error) {
		return func(p registry.Page[string]) (registry.List[string], error) {
			calls++
			var l registry.List[string]
			for _, s := range all {
				if s > p.After && len(l.Items) < min(size, p.Limit) {
					l.Items = append(l.Items, s)
				} else if s > p.After {
					l.More = true
				}
			}
			if p.After >= "c" && fail != nil {
				return registry.List[string]{}, fail
			}
			return l, nil
		}
	}
	same := func(s string) string { return s }
	for size := 1; size <= 6; size++ {
		var got []string
		for s, err := range walk(5, same, list(size)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("pages of %d: %s", size, diff)
		}
	}
	calls = 0
	for s := range walk(5, same, list(2)) {
		if s == "b" {
			break
		}
	}
	if calls != 1 {
		t.Errorf("%d pages were fetched for two entries", calls)
	}
	fail = errors.New("no more")
	var got []string
	for s, err := range walk(5, same, list(2)) {
		got = append(got, fmt.Sprint(s, err))
	}
	if diff := cmp.Diff([]string{"a<nil>", "b<nil>", "c<nil>", "d<nil>", "no more"}, got); diff != "" {
		t.Error(diff)
	}
	// A server that says there is more and sends nothing does not hold us for ever.
	for range walk(5, same, func(registry.Page[string]) (registry.List[string], error) {
		return registry.List[string]{More: true}, nil
	}) {
		t.Error("got an entry of an empty page")
	}
}

func TestPush(t *testing.T) {
	ctx := t.Context()
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpcServer(blobs, catalog)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	c, err := Dial(Options{Metadata: []string{l.Addr().String()}, Blobstore: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := registry.Actor{ID: "me"}

	d := registry.SHA256.FromString("content")
	if _, err := Upload(ctx, c.Blobs, c.Catalog, a, "r", strings.NewReader("other content"), d); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := Upload(ctx, c.Blobs, c.Catalog, a, "r", strings.NewReader("x"), "nonsense"); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Errorf("no digest: %v", err)
	}
	if _, err := Upload(ctx, c.Blobs, c.Catalog, a, "NO", strings.NewReader("content"), d); !errors.Is(err, registry.ErrNameInvalid) {
		t.Errorf("no name: %v", err)
	}
	s, err := Upload(ctx, c.Blobs, c.Catalog, a, "r", strings.NewReader("content"), d)
	if err != nil || s.Digest != d || s.Size != 7 {
		t.Fatalf("got %v, %v", s, err)
	}
	index := `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`
	m, err := PushManifest(ctx, c.Catalog, a, "r", registry.TypeIndex, []byte(index), "one")
	if err != nil || m != registry.SHA256.FromString(index) {
		t.Fatalf("got %v, %v", m, err)
	}
	if got, err := Retag(ctx, c.Catalog, a, "r", registry.Reference{Tag: "one"}, "two"); err != nil || got != m {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Retag(ctx, c.Catalog, a, "r", registry.Reference{Tag: "none"}, "two"); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := PushManifest(ctx, c.Catalog, a, "r", registry.TypeIndex, []byte("{")); !errors.Is(err, registry.ErrManifestInvalid) {
		t.Errorf("got %v", err)
	}
	var tags []registry.Tag
	for tag, err := range Tags(ctx, c.Catalog, a, "r") {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	if diff := cmp.Diff([]registry.Tag{"one", "two"}, tags); diff != "" {
		t.Error(diff)
	}
	for d, err := range Referrers(ctx, c.Catalog, a, "r", m, "") {
		t.Errorf("got %v, %v", d, err)
	}
}

func grpcServer(b registry.Blobs, c registry.Catalog) *grpc.Server {
	srv := rpc.NewServer(rpc.ServerOptions{})
	rpc.ServeBlobs(srv, b)
	rpc.ServeCatalog(srv, c)
	return srv
}
