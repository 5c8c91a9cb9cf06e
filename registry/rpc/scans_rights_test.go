package rpc

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/memory"
)

// asked is a scanner that counts what it is asked.
type asked struct {
	registry.Scans
	calls int
}

func (s *asked) ScanStatus(context.Context, registry.Name, registry.Digest) (registry.ScanStatus, error) {
	s.calls++
	return registry.ScanStatus{}, nil
}

func (s *asked) ScanStatuses(context.Context, []registry.Digest) ([]registry.ScanStatus, error) {
	s.calls++
	return nil, nil
}

func (s *asked) FindingsDiff(context.Context, []registry.Digest, []registry.Digest, registry.FindingQuery) (registry.FindingPage, error) {
	s.calls++
	return registry.FindingPage{}, nil
}

func (s *asked) AffectedImages(context.Context, string, registry.Page[registry.Digest]) (registry.List[registry.Digest], error) {
	s.calls++
	return registry.List[registry.Digest]{}, nil
}

func (s *asked) AffectedOf(context.Context, string, []registry.Digest) ([]registry.Affection, error) {
	s.calls++
	return nil, nil
}

func (s *asked) SBOM(context.Context, registry.Name, registry.Digest, registry.SBOMFormat) ([]byte, error) {
	s.calls++
	return []byte("{}"), nil
}

func (s *asked) AttachSBOM(context.Context, registry.Actor, registry.Name, registry.Digest, registry.SBOMFormat) (registry.Digest, error) {
	s.calls++
	return "", nil
}

func (s *asked) ScanNow(context.Context, registry.Name, registry.Digest) error { s.calls++; return nil }

func (s *asked) ScanQueue(context.Context) (registry.ScanQueue, error) {
	s.calls++
	return registry.ScanQueue{}, nil
}

func (s *asked) UpdateDB(context.Context) (registry.ScanDB, error) {
	s.calls++
	return registry.ScanDB{}, nil
}

func (s *asked) ImportDB(_ context.Context, r io.Reader) (registry.ScanDB, error) {
	s.calls++
	_, err := io.Copy(io.Discard, r)
	return registry.ScanDB{}, err
}

// withImage returns a catalog with the rules r and an image in the repository a/b.
func withImage(t testing.TB, r *registry.AccessRules) (registry.Catalog, registry.Digest) {
	t.Helper()
	o := memory.CatalogOptions{}
	if r != nil {
		p, err := access.Compile(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Access = p
	}
	c := memory.NewCatalog(o)
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := registry.SHA256.FromBytes(index)
	if _, err := c.PutManifest(t.Context(), registry.Actor{System: true}, "a/b", registry.ManifestPut{
		Digest: d, Tags: []registry.Tag{"v1"}, MediaType: "application/vnd.oci.image.index.v1+json", Bytes: index,
	}); err != nil {
		t.Fatal(err)
	}
	return c, d
}

// TestScansAreForReadersAndAdministrators: a certificate of automation is no right to
// look into images or to steer the scanner. Whoever may read a repository may ask about
// its images, and no others; the rest is for administrators.
func TestScansAreForReadersAndAdministrators(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	server := named(t, ca, "scanner")
	const ci = "ci.example.org"
	admin := func(who string) *registry.AccessRules {
		return &registry.AccessRules{AdminPolicy: &registry.AccessPolicy{Users: []string{who}, Actions: []string{"read", "create", "update", "delete"}}}
	}
	reader := &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"a/**": {Policies: []registry.AccessPolicy{{Users: []string{ci}, Actions: []string{"read"}}}},
	}}
	for name, test := range map[string]struct {
		rules         *registry.AccessRules
		nobody        bool // to ask
		client        string
		reads, steers bool
	}{
		"an administrator":       {rules: admin(ci), client: ci, reads: true, steers: true},
		"a reader":               {rules: reader, client: ci, reads: true},
		"neither":                {rules: admin("boss"), client: ci},
		"no rules":               {client: ci},
		"nobody to ask":          {nobody: true, client: ci},
		"a gateway for somebody": {rules: admin("boss"), client: "gateway", reads: true, steers: true},
	} {
		t.Run(name, func(t *testing.T) {
			local := new(asked)
			catalog, d := withImage(t, test.rules)
			var rights ScanRights = catalog
			if test.nobody {
				rights = nil
			}
			address := overNetwork(t, ServerOptions{Security: server}, func(srv *grpc.Server) { ServeScans(srv, local, rights) })
			s := NewScans(connect(t, address, DialOptions{Security: named(t, ca, test.client), Server: Scanner}))
			ctx, images, want := t.Context(), []registry.Digest{d}, 0
			check := func(what string, may bool, err error) {
				t.Helper()
				refused := errors.Is(err, registry.ErrDenied) || name == "no rules" && errors.Is(err, registry.ErrUnavailable)
				if (err == nil) != may || err != nil && !refused {
					t.Errorf("%s: %v", what, err)
				}
				if may {
					want++
				}
				if local.calls != want {
					t.Errorf("%s: the scanner was called %d times, want %d", what, local.calls, want)
					want = local.calls
				}
			}
			_, err := s.ScanStatus(ctx, "a/b", d)
			check("status", test.reads, err)
			_, err = s.SBOM(ctx, "a/b", d, registry.SPDX)
			check("sbom", test.reads, err)
			_, err = s.AttachSBOM(ctx, registry.Actor{}, "a/b", d, registry.SPDX)
			check("attach", test.reads, err) // the catalog decides about the push

			_, err = s.ScanStatuses(ctx, images)
			check("statuses", test.steers, err)
			_, err = s.Findings(ctx, d, registry.FindingQuery{})
			check("findings", test.steers, err)
			_, err = s.AffectedImages(ctx, "CVE-1", registry.Page[registry.Digest]{Limit: 1})
			check("affected", test.steers, err)
			_, err = s.AffectedOf(ctx, "CVE-1", images)
			check("which are affected", test.steers, err)
			check("scan", test.steers, s.ScanNow(ctx, "a/b", d))
			_, err = s.ScanQueue(ctx)
			check("queue", test.steers, err)
			_, err = s.UpdateDB(ctx)
			check("update", test.steers, err)
			_, err = s.ImportDB(ctx, strings.NewReader("x"))
			check("import", test.steers, err)

			if test.reads && test.client == ci {
				other := registry.SHA256.FromString("an image of another repository")
				if _, err := s.SBOM(ctx, "a/b", other, registry.SPDX); !errors.Is(err, registry.ErrManifestUnknown) {
					t.Errorf("an image that is not there: %v", err)
				}
			}
		})
	}
}

// TestGatesAndOwnersAskTheScanner: the metadata service asks about images before it
// lets them be pulled, and who owns the store may import a database, which is a stream.
func TestGatesAndOwnersAskTheScanner(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	local := new(asked)
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "scanner")}, func(srv *grpc.Server) { ServeScans(srv, local, nil) })
	s := NewScans(connect(t, address, DialOptions{Security: named(t, ca, "metadata"), Server: Scanner}))
	if _, err := s.Findings(t.Context(), registry.SHA256.FromString("x"), registry.FindingQuery{}); err != nil {
		t.Errorf("the metadata service: %v", err)
	}
	if _, err := s.ImportDB(t.Context(), strings.NewReader("x")); err == nil {
		t.Error("the metadata service has imported a database")
	}

	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	unit, err := ControlUnit(t.Context(), root, memory.NewBlobs(), ruled(t, "boss"), nil, local, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- unit.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(unit.Stop(context.Background()), <-ended); err != nil {
			t.Error(err)
		}
	})
	control, err := DialControl(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	if _, err := control.Scans.ImportDB(t.Context(), strings.NewReader("x")); err != nil {
		t.Errorf("the owner of the store: %v", err)
	}
	if _, err := control.Scans.ScanQueue(t.Context()); err != nil {
		t.Errorf("the owner of the store: %v", err)
	}
}
