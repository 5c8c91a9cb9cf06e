package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/berth-registry/berth/registry/porttest"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// Topology says which programs make up a [System].
type Topology string

const (
	Linked      Topology = "linked"       // one process: berth
	Split       Topology = "split"        // blobstore, metadata and gateway, over gRPC
	SplitTLS    Topology = "split-mtls"   // the same with mutual TLS
	TwoGateways Topology = "two-gateways" // split, with two gateways behind a round-robin proxy
	Replicas    Topology = "replicas"     // two of each over PostgreSQL and S3, with mutual TLS, behind that proxy
	Peer        Topology = "peer"         // Debian's docker-registry: what the harness and the figures are checked against
)

// Options describe the system that [Start] brings up.
type Options struct {
	Topology Topology

	// Program is what runs if the topology is [Linked]; "" means berth.
	Program string

	// Bin says where programs are that are not those of [Program], by name.
	Bin map[string]string

	// Cgroup is the file cgroup.procs of the cgroup that the programs run in; ""
	// means that of the test.
	Cgroup string

	// Dir is the storage root. Empty means a new directory that goes away with
	// the test.
	Dir string

	// Postgres is the server that the catalog is in, in a database of its own; nil
	// means SQLite.
	Postgres *pgtest.Server

	// S3 is the server that bytes are in, below a root directory of their own; nil
	// means the disk. A linked system needs Postgres, too.
	S3 *s3test.Server

	// Through returns the address by which programs of one kind reach a server of
	// another at address, such as that of a [Cable]; the kinds are gateway, metadata,
	// blobstore, postgres and s3. nil means address itself.
	Through func(from, to, address string) string

	// Mirror adds berth-syncer where services are programs of their own. Edit gives
	// it something to mirror.
	Mirror bool

	// Scan adds berth-scanner where services are programs of their own. Edit gives
	// it a database.
	Scan bool

	// Env is the environment of the programs besides that of the test.
	Env []string

	// Edit may change the configuration before it is written. It is called
	// once for each file; the value is what encoding/json would decode.
	Edit func(config map[string]any)
}

// System is a running registry.
type System struct {
	Topology Topology
	Addr     string // host:port that clients speak to: plain HTTP, unless an Edit says otherwise
	Dir      string // storage root
	Config   string // configuration file (the first gateway's, where there are two)

	Processes []*Process // in the order in which they were started
}

// URL is the base of the registry's API without a slash at its end.
func (s *System) URL() string { return "http://" + s.Addr }

// Start brings a system up and returns when it answers /readyz. It is stopped
// and its logs are checked when t ends.
func Start(t testing.TB, opt Options) *System {
	t.Helper()
	s := &System{Topology: opt.Topology, Dir: opt.Dir}
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	etc := t.TempDir()
	if opt.Program == "" {
		opt.Program = "berth"
	}
	if opt.Topology == Replicas && opt.Postgres == nil {
		opt.Postgres = pgtest.Start(t, pgtest.Options{Durable: true})
	}
	if opt.Topology == Replicas && opt.S3 == nil {
		opt.S3 = s3test.Start(t)
	}
	if opt.Postgres != nil {
		opt.Edit = onPostgres(t, opt)
	}
	if opt.S3 != nil {
		opt.Edit = onS3(t, opt)
	}
	switch opt.Topology {
	case Linked:
		s.Config = writeConfig(t, etc, "config.json", s.Dir, freePort(t), nil, opt)
		s.Addr = loopback(httpPort(t, s.Config))
		s.add(t, opt, opt.Program, s.Config)
	case Split, SplitTLS, TwoGateways, Replicas:
		s.addServices(t, etc, opt)
	case Peer:
		s.startPeer(t, etc)
		return s
	default:
		t.Fatalf("unknown topology %q", opt.Topology)
	}
	for _, p := range s.Processes {
		if opt.Cgroup != "" { // the shell enters it and becomes the program
			p.Args = append([]string{"-c", `echo $$ >"$0" && exec "$@"`, opt.Cgroup, p.Path}, p.Args...)
			p.Path = "/bin/sh"
		}
		p.start(t)
	}
	for _, p := range s.Processes {
		p.await(t)
	}
	return s
}

// through is Through, if there is one.
func (o Options) through(from, to, address string) string {
	if o.Through == nil {
		return address
	}
	return o.Through(from, to, address)
}

// onPostgres returns an edit that puts the catalog into a new database of the
// server, whatever else it does.
func onPostgres(t testing.TB, opt Options) func(map[string]any) {
	t.Helper()
	port := portOf(t, opt.through("metadata", "postgres", loopback(opt.Postgres.Port)))
	dsn := pgtest.DSN(port, opt.Postgres.Database(t))
	return func(config map[string]any) {
		config["storage"].(map[string]any)["metadata"] = map[string]any{"driver": "postgres", "dsn": dsn}
		if opt.Edit != nil {
			opt.Edit(config)
		}
	}
}

// onS3 returns an edit that puts the bytes into the server, whatever else it does.
func onS3(t testing.TB, opt Options) func(map[string]any) {
	driver := map[string]any(opt.S3.Driver("/" + filepath.Base(t.TempDir()) + "-" + strconv.Itoa(freePort(t)))) // as a Driver it would hide its secrets
	driver["regionendpoint"] = "http://" + opt.through("blobstore", "s3", hostPort(opt.S3.URL))
	return func(config map[string]any) {
		config["storage"].(map[string]any)["storageDriver"] = driver
		if opt.Edit != nil {
			opt.Edit(config)
		}
	}
}

// add registers a program of the system; those that serve HTTP are waited for.
func (s *System) add(t testing.TB, opt Options, program, config string) {
	t.Helper()
	p := &Process{
		Name: program,
		Path: opt.Bin[program],
		Args: []string{"serve", config},
	}
	if p.Path == "" {
		p.Path = Program(t, program)
	}
	p.Env = opt.Env
	if program == "berth-syncer" || program == "berth-scanner" {
		p.healthy = true
	} else if program != "berth-blobstore" && program != "berth-metadata" {
		p.ready = scheme(t, config) + "://" + loopback(httpPort(t, config)) + "/readyz"
	}
	s.Processes = append(s.Processes, p)
}

// startPeer runs Debian's docker-registry on the same kind of store.
func (s *System) startPeer(t testing.TB, etc string) {
	t.Helper()
	s.Addr = loopback(freePort(t))
	s.Config = filepath.Join(etc, "config.yml")
	config := fmt.Sprintf(`version: 0.1
log: {level: error}
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
http: {addr: %s}
`, s.Dir, s.Addr)
	if err := os.WriteFile(s.Config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Process{
		Name:  "docker-registry",
		Path:  "/usr/bin/docker-registry",
		Args:  []string{"serve", s.Config},
		ready: s.URL() + "/v2/", abrupt: true,
	}
	s.Processes = []*Process{p}
	p.start(t)
	p.waitReady(t)
}

// writeConfig writes a configuration file in zot's format and returns its path.
func writeConfig(t testing.TB, etc, name, root string, port int, services map[string]any, opt Options) string {
	t.Helper()
	config := map[string]any{
		"distSpecVersion": "1.1.1",
		"storage":         map[string]any{"rootDirectory": root},
		"http":            map[string]any{"address": "127.0.0.1", "port": strconv.Itoa(port)},
		"log":             map[string]any{"level": "debug"},
	}
	if services != nil {
		config["services"] = maps.Clone(services)
	}
	if opt.Edit != nil {
		opt.Edit(config)
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(etc, name)
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// httpFile is what is read back of http in a configuration file, so that an Edit may
// choose it.
type httpFile struct {
	Port string          `json:"port"`
	TLS  json.RawMessage `json:"tls"`
}

func readHTTP(t testing.TB, config string) httpFile {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		HTTP httpFile `json:"http"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("reading %s: %v", config, err)
	}
	return file.HTTP
}

// httpPort returns the port that a configuration file names.
func httpPort(t testing.TB, config string) int {
	t.Helper()
	port, err := strconv.Atoi(readHTTP(t, config).Port)
	if err != nil {
		t.Fatalf("port in %s: %v", config, err)
	}
	return port
}

// scheme returns how clients speak to what a configuration file describes.
func scheme(t testing.TB, config string) string {
	t.Helper()
	if len(readHTTP(t, config).TLS) > 0 {
		return "https"
	}
	return "http"
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePort is [porttest.Free] for tests.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Program returns the path of a built program: bin/ of the repository, or
// $BERTH_BIN.
func Program(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		dir = filepath.Join(Root(t), "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("program %s is not built (run `make build`): %v", name, err)
	}
	return path
}

// Root is the directory of the repository: the one that holds go.work.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.work above the working directory")
		}
		dir = parent
	}
}
