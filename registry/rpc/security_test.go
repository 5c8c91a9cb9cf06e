package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
)

// peers are those of a config file without services.tls.peers, and clients of
// automation below example.org.
func peers() config.Peers {
	return config.Peers{
		Gateway: []string{"gateway", "spiffe://here/gateway"}, Blobstore: []string{"blobstore"}, Metadata: []string{"metadata"},
		Syncer: []string{"syncer"}, Scanner: []string{"scanner"}, Automation: []string{"*.example.org", "spiffe://here/ci/*"},
	}
}

// secure returns the security of a program with these files.
func secure(t testing.TB, f certstest.Files, log *slog.Logger) *Security {
	t.Helper()
	s, err := Secure(config.Services{TLS: &config.MutualTLS{Cert: f.Cert, Key: f.Key, CACert: f.CA, Peers: peers()}}, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// named returns the security of a program whose certificate has these names.
func named(t testing.TB, ca *certstest.Authority, names ...string) *Security {
	t.Helper()
	return secure(t, ca.Save(t, t.TempDir(), certstest.Request{Names: names}), slog.New(slog.DiscardHandler))
}

// overNetwork serves what register adds on a loopback port, until the test ends,
// and returns its address.
func overNetwork(t testing.TB, o ServerOptions, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(o)
	register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, srv, memory.NewBlobs(), time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// connect dials address until the test ends.
func connect(t testing.TB, address string, o DialOptions) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial([]string{address}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// lockedBuffer is what a logger has written, which may go on.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestS144 connects in all the ways that are not those of a peer.
func TestS144(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ours"), certstest.NewAuthority(t, "other")
	serverFiles := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"blobstore"}})
	issue := func(a *certstest.Authority, r certstest.Request) *tls.Config {
		cert, key := a.Issue(t, r)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		// Without asking who the server is, to be refused by nobody but it.
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	}
	tls12 := issue(ca, certstest.Request{Names: []string{"gateway"}})
	tls12.MaxVersion = tls.VersionTLS12
	for name, test := range map[string]struct {
		client *tls.Config // nil: plaintext
		well   bool
		logged string
	}{
		"a gateway":                    {issue(ca, certstest.Request{Names: []string{"gateway"}}), true, ""},
		"a gateway by URI":             {issue(ca, certstest.Request{Names: []string{"spiffe://here/gateway"}}), true, ""},
		"a gateway for clients only":   {issue(ca, certstest.Request{Names: []string{"gateway"}, ExtUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), true, ""},
		"plaintext":                    {nil, false, "first record does not look like a TLS handshake"},
		"no certificate":               {&tls.Config{InsecureSkipVerify: true}, false, "client didn't provide a certificate"},
		"another authority":            {issue(other, certstest.Request{Names: []string{"gateway"}}), false, "signed by unknown authority"},
		"a name that is nobody's":      {issue(ca, certstest.Request{Names: []string{"gateway.example.com"}}), false, "no role has a name"},
		"a common name only":           {issue(ca, certstest.Request{Subject: "gateway"}), false, "no role has a name"},
		"an IP address only":           {issue(ca, certstest.Request{Names: []string{"127.0.0.1"}}), false, "no role has a name"},
		"another URI":                  {issue(ca, certstest.Request{Names: []string{"spiffe://there/gateway"}}), false, "no role has a name"},
		"a name with a wildcard":       {issue(ca, certstest.Request{Names: []string{"*.example.org"}}), false, "no role has a name"},
		"a certificate of servers":     {issue(ca, certstest.Request{Names: []string{"gateway"}, ExtUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), false, "incompatible key usage"},
		"an expired certificate":       {issue(ca, certstest.Request{Names: []string{"gateway"}, Since: time.Now().Add(-time.Hour), Until: time.Now().Add(-time.Minute)}), false, "expired"},
		"a certificate of tomorrow":    {issue(ca, certstest.Request{Names: []string{"gateway"}, Since: time.Now().Add(time.Hour)}), false, "not yet valid"},
		"TLS 1.2":                      {tls12, false, "unsupported versions"},
		"a client of automation":       {issue(ca, certstest.Request{Names: []string{"ci.example.org"}}), true, ""},
		"automation two labels deeper": {issue(ca, certstest.Request{Names: []string{"a.ci.example.org"}}), false, "no role has a name"},
		"automation by URI":            {issue(ca, certstest.Request{Names: []string{"spiffe://here/ci/x"}}), true, ""},
		"automation of no URI":         {issue(ca, certstest.Request{Names: []string{"spiffe://here/ci/"}}), false, "no role has a name"},
	} {
		t.Run(name, func(t *testing.T) {
			var out lockedBuffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			address := overNetwork(t, ServerOptions{Security: secure(t, serverFiles, log), Log: log}, func(srv *grpc.Server) { ServeBlobs(srv, memory.NewBlobs()) })
			o := DialOptions{}
			var more []grpc.DialOption
			if test.client != nil {
				more = append(more, grpc.WithTransportCredentials(credentials.NewTLS(test.client)))
			}
			conn, err := dial([]string{address}, o, more...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, err = blobstorev1.NewBlobServiceClient(conn).Check(t.Context(), &blobstorev1.CheckRequest{})
			if test.well {
				// What it may call is another question: it has been let in.
				if c := status.Code(err); c != codes.OK && c != codes.PermissionDenied {
					t.Error(err)
				}
			} else if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			if test.logged != "" {
				eventually(t, "a line in the log", func() bool { return strings.Contains(out.String(), "refused a connection") })
			}
			if text := out.String(); !strings.Contains(text, test.logged) {
				t.Errorf("logged %s", text)
			}
		})
	}
}

// TestClientPinsTheRole shows servers to a client that looks for a blobstore.
func TestClientPinsTheRole(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ours"), certstest.NewAuthority(t, "other")
	gateway := named(t, ca, "gateway")
	for name, test := range map[string]struct {
		server *Security // nil: plaintext
		want   string    // in the error; empty: none
	}{
		"a blobstore":              {named(t, ca, "blobstore"), ""},
		"a blobstore and catalog":  {named(t, ca, "metadata", "blobstore"), ""},
		"a catalog":                {named(t, ca, "metadata"), "(metadata)"},
		"a gateway":                {named(t, ca, "gateway"), "does not name a blobstore"},
		"a client of automation":   {named(t, ca, "ci.example.org"), "does not name a blobstore"},
		"of another installation":  {named(t, other, "blobstore"), "signed by unknown authority"},
		"plaintext":                {nil, "first record does not look like a TLS handshake"},
		"with the address in it":   {named(t, ca, "127.0.0.1", "localhost", "metadata"), "does not name a blobstore"},
		"not meant to be a server": {secure(t, ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"blobstore"}, ExtUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), slog.New(slog.DiscardHandler)), "incompatible key usage"},
	} {
		t.Run(name, func(t *testing.T) {
			address := overNetwork(t, ServerOptions{Security: test.server}, func(srv *grpc.Server) { ServeBlobs(srv, memory.NewBlobs()) })
			b := NewBlobs(connect(t, address, DialOptions{Security: gateway, Server: Blobstore}))
			_, err := b.Check(t.Context())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestSecureRefuses(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	good := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"gateway"}})
	stranger := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"stranger"}})
	for name, test := range map[string]struct {
		files certstest.Files
		want  string
	}{
		"no certificate": {certstest.Files{Cert: "/nowhere/c", Key: good.Key, CA: good.CA}, "services.tls: looking at a file of the certificate"},
		"no authority":   {certstest.Files{Cert: good.Cert, Key: good.Key, CA: "/nowhere/a"}, "services.tls.cacert"},
		"a key as one":   {certstest.Files{Cert: good.Cert, Key: good.Key, CA: good.Key}, "holds no certificate"},
		"nobody":         {stranger, `names nothing that services.tls.peers knows: its names are ["stranger"]`},
	} {
		_, err := Secure(config.Services{TLS: &config.MutualTLS{Cert: test.files.Cert, Key: test.files.Key, CACert: test.files.CA, Peers: peers()}}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if _, err := BlobsUnit(t.Context(), "127.0.0.1:0", memory.NewBlobs(), ServerOptions{Security: secure(t, good, slog.New(slog.DiscardHandler))}); err == nil ||
		!strings.Contains(err.Error(), `the certificate is for ["gateway"], none of which is a blobstore`) {
		t.Errorf("a blobstore with a gateway's certificate: %v", err)
	}
	if s, err := Secure(config.Services{}, slog.New(slog.DiscardHandler)); s != nil || err != nil {
		t.Errorf("without services.tls: %v, %v", s, err)
	}
}

// TestReload renews certificates and replaces the authority while a blob is on
// its way, which nobody notices.
func TestReload(t *testing.T) {
	before, after := certstest.NewAuthority(t, "before"), certstest.NewAuthority(t, "after")
	ours, theirs := t.TempDir(), t.TempDir()
	gateway := before.Save(t, ours, certstest.Request{Names: []string{"gateway"}})
	blobstore := before.Save(t, theirs, certstest.Request{Names: []string{"blobstore"}})
	old := named(t, before, "gateway")

	local := memory.NewBlobs()
	data := pattern(32 << 20)
	s := put(t, local, data)
	address := overNetwork(t, ServerOptions{Security: secure(t, blobstore, slog.New(slog.DiscardHandler))}, func(srv *grpc.Server) { ServeBlobs(srv, local) })
	security := secure(t, gateway, slog.New(slog.DiscardHandler))
	c, err := NewBlobs(connect(t, address, DialOptions{Security: security, Server: Blobstore})).Open(t.Context(), s, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Fatal(err)
	}

	// All at once here; in life both authorities are in the files for a while.
	after.Save(t, ours, certstest.Request{Names: []string{"gateway"}})
	after.Save(t, theirs, certstest.Request{Names: []string{"blobstore"}})
	eventually(t, "the new authority counts at both ends", func() bool {
		conn, err := Dial([]string{address}, DialOptions{Security: security, Server: Blobstore})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = NewBlobs(conn).Check(t.Context())
		return err == nil && security.pair.Current().Leaf.Issuer.CommonName == "after"
	})
	_, err = NewBlobs(connect(t, address, DialOptions{Security: old, Server: Blobstore})).Check(t.Context())
	wantErr(t, "Check by a client of the old authority", err, registry.ErrUnavailable)

	rest, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(rest, data[1<<20:]) {
		t.Errorf("the transfer in progress: got %d bytes, %v", len(rest), err)
	}
}

// seen is a catalog that notes who asks.
type seen struct {
	*memory.Catalog
	mu    sync.Mutex
	actor []registry.Actor
}

func (s *seen) Tags(_ context.Context, a registry.Actor, _ registry.Name, _ registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actor = append(s.actor, a)
	return registry.List[registry.Tag]{}, nil
}

// TestActorIsHonoured sends an actor that may do everything as several peers.
func TestActorIsHonoured(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	server := named(t, ca, "metadata")
	for name, test := range map[string]struct {
		server, client *Security
		want           string // the actor's name that the catalog sees
	}{
		"a gateway":              {server, named(t, ca, "gateway"), "admin"},
		"a syncer":               {server, named(t, ca, "syncer"), "admin"},
		"a gateway and more":     {server, named(t, ca, "ci.example.org", "gateway"), "admin"},
		"automation":             {server, named(t, ca, "ci.example.org"), "ci.example.org"},
		"automation by URI":      {server, named(t, ca, "ci.example.org", "spiffe://here/ci/x"), "spiffe://here/ci/x"},
		"plaintext, as loopback": {nil, nil, "admin"},
	} {
		t.Run(name, func(t *testing.T) {
			local := &seen{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
			address := overNetwork(t, ServerOptions{Security: test.server}, func(srv *grpc.Server) { ServeCatalog(srv, local) })
			c := NewCatalog(connect(t, address, DialOptions{Security: test.client, Server: Metadata}))
			admin := registry.Actor{ID: "admin", Groups: []string{"admins"}, Claims: map[string]string{"a": "b"}}
			if _, err := c.Tags(t.Context(), admin, "a/b", registry.Page[registry.Tag]{Limit: 1}); err != nil {
				t.Fatal(err)
			}
			got := local.actor[0]
			if got.ID != test.want || (len(got.Groups) > 0) != (test.want == "admin") || (len(got.Claims) > 0) != (test.want == "admin") {
				t.Errorf("the catalog sees %+v, want %s", got, test.want)
			}
		})
	}
}

// TestCredentialsOfAutomation: automation makes API keys, and neither sessions nor
// claims, which only who has seen a login can know.
func TestCredentialsOfAutomation(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	local := memory.NewCatalog(memory.CatalogOptions{})
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "metadata")}, func(srv *grpc.Server) { ServeCatalog(srv, local) })
	for who, speaks := range map[string]bool{"gateway": true, "ci.example.org": false} {
		c := NewCatalog(connect(t, address, DialOptions{Security: named(t, ca, who), Server: Metadata}))
		x := registry.Credential{Kind: registry.APIKey, ID: who, Owner: who, Claims: map[string]string{"email": "boss@example.org"}}
		if err := c.AddCredential(t.Context(), registry.Actor{ID: who}, x, []byte(who)); err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		x, _, err := local.UseCredential(t.Context(), registry.APIKey, []byte(who))
		if err != nil || (len(x.Claims) > 0) != speaks {
			t.Errorf("%s: a key with %v, %v", who, x.Claims, err)
		}
		x = registry.Credential{Kind: registry.Session, ID: who, Owner: who}
		if err := c.AddCredential(t.Context(), registry.Actor{ID: who}, x, []byte("session of "+who)); (err == nil) != speaks {
			t.Errorf("%s: making a session: %v", who, err)
		}
	}
}

// TestDenied calls methods that are not for the caller, and some that are.
func TestDenied(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	blobs := memory.NewBlobs()
	s := put(t, blobs, pattern(1000))
	var out lockedBuffer
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "blobstore", "metadata"), Log: slog.New(slog.NewTextHandler(&out, nil))}, func(srv *grpc.Server) {
		ServeBlobs(srv, blobs)
		ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	})
	calls := map[string]func(registry.Blobs, registry.Catalog) error{
		"Open": func(b registry.Blobs, _ registry.Catalog) error {
			c, err := b.Open(t.Context(), s, registry.Whole)
			if err == nil {
				err = c.Close()
			}
			return err
		},
		"Start": func(b registry.Blobs, _ registry.Catalog) error { _, err := b.Start(t.Context(), "", ""); return err },
		"Remove": func(b registry.Blobs, _ registry.Catalog) error {
			return b.Remove(t.Context(), registry.Stored{Digest: s.Digest, Locator: "none"})
		},
		"Verify": func(b registry.Blobs, _ registry.Catalog) error { return b.Verify(t.Context(), s, 0) },
		"Copies": func(b registry.Blobs, _ registry.Catalog) error {
			_, err := b.Copies(t.Context(), "", nil, 1)
			return err
		},
		"UploadKeys": func(_ registry.Blobs, c registry.Catalog) error { _, err := c.UploadKeys(t.Context()); return err },
		"Repositories": func(_ registry.Blobs, c registry.Catalog) error {
			_, err := c.Repositories(t.Context(), registry.Actor{}, registry.Page[registry.Name]{Limit: 1})
			return err
		},
		"Link": func(_ registry.Blobs, c registry.Catalog) error {
			_, err := c.Link(t.Context(), registry.Actor{}, "a/b", s)
			return err
		},
		"Check": func(_ registry.Blobs, c registry.Catalog) error { _, err := c.Check(t.Context()); return err },
	}
	for who, allowed := range map[string]string{
		"gateway":        "Open Start UploadKeys Repositories Link Check",
		"metadata":       "Open Remove Verify Copies Check",
		"blobstore":      "Check",
		"syncer":         "Open Start Repositories Link Check",
		"scanner":        "Open Start Repositories Link Check",
		"ci.example.org": "Repositories Check",
	} {
		conn := connect(t, address, DialOptions{Security: named(t, ca, who), Server: Blobstore})
		b, c := NewBlobs(conn), NewCatalog(conn)
		for name, call := range calls {
			err := call(b, c)
			switch want := strings.Contains(" "+allowed+" ", " "+name+" "); {
			case want && err != nil:
				t.Errorf("%s may call %s, but: %v", who, name, err)
			case !want && (!errors.Is(err, registry.ErrInternal) || !strings.Contains(err.Error(), "may not call")):
				t.Errorf("%s may not call %s, and got %v", who, name, err)
			}
		}
	}
	if _, err := blobs.Open(t.Context(), s, registry.Whole); err != nil {
		t.Errorf("the blob: %v", err)
	}
	if !strings.Contains(out.String(), `msg="refused a call" method=/berth.blobstore.v1.BlobService/RemoveBlob certificate=gateway roles=gateway`) {
		t.Errorf("logged %s", out.String())
	}
}

// TestCheckHealthOverTLS asks as the program's own healthcheck does.
func TestCheckHealthOverTLS(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	own := named(t, ca, "blobstore")
	address := overNetwork(t, ServerOptions{Security: own}, func(srv *grpc.Server) { ServeBlobs(srv, memory.NewBlobs()) })
	if err := CheckHealth(t.Context(), address, DialOptions{Security: own, Server: Blobstore}); err != nil {
		t.Error(err)
	}
	if err := CheckHealth(t.Context(), address, DialOptions{}); err == nil {
		t.Error("a client without a certificate is told how the server feels")
	}
}

// TestRefusedConnectionsDoNotFloodTheLog connects often and badly.
func TestRefusedConnectionsDoNotFloodTheLog(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	var out lockedBuffer
	s := secure(t, ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"blobstore"}}), slog.New(slog.NewTextHandler(&out, nil)))
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for range 1000 {
		s.refused(a, errors.New("bad"))
	}
	s.refused(a, io.EOF)
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	s.told = s.told.Add(-refusals)
	s.refused(a, errors.New("bad"))
	if !strings.Contains(out.String(), "others=999") {
		t.Errorf("logged %s", out.String())
	}
}
