// Package s3test runs a real S3 server for tests: versitygw on a directory. It
// is found where allinone/e2e/install.sh puts it; a test that needs it is
// skipped, with the reason, where it is missing.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/porttest"
)

// Version is that of the server, as in allinone/e2e/clients.txt.
const Version = "v1.8.0"

// The credentials of the server's only user.
const (
	AccessKey = "test"
	SecretKey = "testtest"
)

// Bucket is there from the start.
const Bucket = "berth"

// Server is an S3 server.
type Server struct {
	URL string // http://127.0.0.1:PORT
	PID int
	Dir string // where the objects of Bucket lie as files
}

// Path returns where the server's program is, or an error that says how to get
// it.
func Path() (string, error) {
	cache := os.Getenv("BERTH_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "berth")
	}
	path := filepath.Join(cache, "clients", "versitygw-"+Version, "versitygw")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no versitygw %s: allinone/e2e/install.sh builds it", Version)
	}
	return path, nil
}

// Start runs a server with an empty [Bucket] for as long as the test. It skips
// the test if it can't.
func Start(t testing.TB) *Server {
	t.Helper()
	path, err := Path()
	if err != nil {
		t.Skip("NOT RUN: " + err.Error())
	}
	s, stop, err := Run(t.Context(), path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// Run runs the program at path as a server whose buckets are directories below
// dir, until stop is called.
func Run(ctx context.Context, path, dir string) (_ *Server, stop func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, "data", Bucket), 0o755); err != nil {
		return nil, nil, err
	}
	port, err := porttest.Free()
	if err != nil {
		return nil, nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, "--port", address, "--quiet", "posix", filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &Server{URL: "http://" + address, PID: cmd.Process.Pid, Dir: filepath.Join(dir, "data", Bucket)}
	if err := s.wait(ctx); err != nil {
		stop()
		said, _ := os.ReadFile(log.Name())
		return nil, nil, fmt.Errorf("versitygw does not answer: %w: %s", err, said)
	}
	return s, stop, nil
}

// wait returns when the server answers.
func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Driver returns the storageDriver of a config file for this server, with root
// as rootdirectory.
func (s *Server) Driver(root string) config.Driver {
	return config.Driver{
		"name": "s3", "bucket": Bucket, "regionendpoint": s.URL, "rootdirectory": root,
		"accesskey": AccessKey, "secretkey": SecretKey,
	}
}
