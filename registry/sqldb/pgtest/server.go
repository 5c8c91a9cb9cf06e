package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/porttest"
)

// Role and Password are those that [Server.DSN] uses. The role owns the databases
// and is no superuser.
const (
	Role     = "berth"
	Password = "pgtest-password"
)

const (
	readyWithin = 60 * time.Second
	readyPause  = 20 * time.Millisecond
	stopWithin  = 60 * time.Second
)

// Options say how a server runs.
type Options struct {
	// Durable lets it sync what it writes. Without, it is fast, and loses data if
	// the machine crashes, but not if the server does.
	Durable bool
	// Settings are further lines of postgresql.conf: name = value.
	Settings []string
}

// Server is a PostgreSQL server of a test. Its methods are for one goroutine,
// but for DSN.
type Server struct {
	Port int // on 127.0.0.1
	bin  string
	dir  string
	user *syscall.Credential // nil: as this process

	cmd    *exec.Cmd
	exited chan struct{} // closed when the server is gone
	names  int           // of databases and schemas
}

// Start runs a server of its own for t, and stops it when t ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(o)
	skipOrFail(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of PostgreSQL:\n%s", s.Log())
		}
		s.remove()
	})
	return s
}

// errMissing says that the machine has no PostgreSQL.
var errMissing = errors.New("NOT RUN: PostgreSQL is not installed (Debian: apt-get install postgresql)")

func skipOrFail(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var shared struct {
	sync.Mutex // guards the fields below
	server     *Server
	err        error
}

// Shared returns the server that all tests of the process share, and starts it
// for the first of them. TestMain must call [Main].
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start(Options{})
	}
	skipOrFail(t, shared.err)
	return shared.server
}

// Main runs the tests and ends the server of [Shared]. It returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.remove()
	}
	return code
}

// find returns the directory of the newest server's programs.
func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	newest := slices.MaxFunc(append(found, ""), func(a, b string) int { return version(a) - version(b) })
	if newest == "" {
		return "", errMissing
	}
	return filepath.Dir(newest), nil
}

// version returns the number in /usr/lib/postgresql/15/bin/postgres, -1 if none.
func version(path string) int {
	parts := strings.Split(path, "/")
	if len(parts) < 5 {
		return -1
	}
	n, err := strconv.Atoi(parts[4])
	if err != nil {
		return -1
	}
	return n
}

func start(o Options) (*Server, error) {
	s := &Server{}
	var err error
	if s.bin, err = find(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "berth-pgtest-"); err != nil {
		return nil, err
	}
	if err := s.initialize(o); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.Start(); err != nil {
		s.remove()
		return nil, err
	}
	_, err = s.SQL("postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", Role, Password))
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// initialize makes the server's files. PostgreSQL does not run as root.
func (s *Server) initialize(o Options) error {
	if os.Getuid() == 0 {
		cred, err := unprivileged()
		if err != nil {
			return err
		}
		s.user = cred
		if err := os.Chown(s.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	init := s.command("initdb", "--pgdata="+s.data(), "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	var err error
	if s.Port, err = porttest.Free(); err != nil {
		return err
	}
	conf := []string{
		"listen_addresses = '127.0.0.1'", "port = " + strconv.Itoa(s.Port), "unix_socket_directories = '" + s.dir + "'",
		"shared_buffers = 32MB", "max_connections = 300", "max_locks_per_transaction = 1024", "log_min_messages = warning",
	}
	if !o.Durable {
		conf = append(conf, "fsync = off", "full_page_writes = off")
	}
	conf = append(conf, o.Settings...)
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + strings.Join(conf, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// command returns a command of the server's programs, run as its user.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// A test binary that is killed must not leave servers behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Log returns what the server has written.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	const keep = 8000
	return string(b[max(0, len(b)-keep):])
}

// Start runs the server after [Server.Stop] and waits until it answers.
func (s *Server) Start() error {
	deadline := time.Now().Add(readyWithin)
	for {
		if err := s.launch(); err != nil {
			return err
		}
		err := s.awaitReady(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// Processes of a server that was killed may not be gone yet.
		<-time.After(readyPause)
	}
}

func (s *Server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", s.data())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // how it ends is what the test has asked for
		close(exited)
	}()
	return nil
}

func (s *Server) awaitReady(deadline time.Time) error {
	for {
		_, err := s.SQL("postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("PostgreSQL ended before it was ready:\n%s", s.Log())
		case <-time.After(readyPause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL was not ready within %v: %w\n%s", readyWithin, err, s.Log())
		}
	}
}

// Stop ends the server and waits until it is gone: SIGTERM waits for clients,
// SIGINT cuts them off, SIGQUIT ends without a checkpoint, SIGKILL is a crash.
func (s *Server) Stop(how syscall.Signal) error {
	if how == syscall.SIGKILL { // its processes would live until they notice
		defer s.killChildren()()
	}
	if err := s.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopWithin):
		return fmt.Errorf("PostgreSQL did not stop within %v", stopWithin)
	}
}

func (s *Server) remove() {
	if s.cmd != nil {
		_ = s.Stop(syscall.SIGQUIT) // its files go next
	}
	os.RemoveAll(s.dir)
}

// SQL runs statements as the superuser and returns the rows, columns divided by
// "|".
func (s *Server) SQL(database, statements string) (string, error) {
	cmd := s.command("psql", "--host="+s.dir, "--port="+strconv.Itoa(s.Port), "--username=postgres", "--dbname="+database,
		"--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command="+statements)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, fault.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// MustSQL is SQL for tests.
func (s *Server) MustSQL(t testing.TB, database, statements string) string {
	t.Helper()
	out, err := s.SQL(database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Database makes a new database and returns its name. options are those of
// CREATE DATABASE.
func (s *Server) Database(t testing.TB, options ...string) string {
	t.Helper()
	name := s.newName()
	s.MustSQL(t, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s %s", name, Role, strings.Join(options, " ")))
	return name
}

// Schema makes a new schema in the database postgres, which takes less time than
// a database, and returns its name. It is also that of the application in
// pg_stat_activity.
func (s *Server) Schema(t testing.TB) (name, dsn string) {
	t.Helper()
	name = s.newName()
	s.MustSQL(t, "postgres", fmt.Sprintf("CREATE SCHEMA %s AUTHORIZATION %s", name, Role))
	return name, s.DSN("postgres") + "&application_name=" + name + "&search_path=" + name
}

func (s *Server) newName() string {
	shared.Lock()
	defer shared.Unlock()
	s.names++
	return "test" + strconv.Itoa(s.names)
}

// DSN returns the data source name of a database.
func (s *Server) DSN(database string) string { return DSN(s.Port, database) }

// DSN returns the data source name of a database behind a port of this machine:
// that of a proxy, for instance.
func DSN(port int, database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", Role, Password, port, database)
}
