package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
)

// run serves a gateway in memory as h says until the test ends, and returns the
// address that the log names.
func run(t *testing.T, h config.HTTP) string {
	t.Helper()
	return runWith(t, h, newWorld().deps)
}

// runWith is run on other services.
func runWith(t *testing.T, h config.HTTP, deps Deps) string {
	t.Helper()
	var out logBuffer
	unit, err := Configured(t.Context(), httpOf(h), deps, process("", slog.New(slog.NewJSONHandler(&out, nil))))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(unit.Stop(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	})
	var record struct{ Address string }
	for line := range strings.Lines(out.take()) {
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("in the log: %v", err)
		}
	}
	if record.Address == "" {
		t.Fatal("no address in the log")
	}
	return record.Address
}

// overUnix asks through a socket.
func overUnix(path string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	return client.Get("http://registry/v2/")
}

func TestListensOnIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Log("this machine has no IPv6; see TestEndpoint")
		return
	} else {
		l.Close()
	}
	for _, address := range []string{"::1", "[::1]"} {
		h := config.Defaults().HTTP
		h.Address, h.Port = address, "0"
		addr := run(t, h)
		if !strings.HasPrefix(addr, "[::1]:") || strings.HasSuffix(addr, ":0") {
			t.Errorf("%s: listens on %s", address, addr)
		}
		do(t, "GET", "http://"+addr+"/v2/", nil).want(t, 200)
	}
}

// TestS137ListensOnASocket: nobody else may connect.
func TestS137ListensOnASocket(t *testing.T) {
	for _, prefix := range []string{"unix:", "unix://"} {
		path := filepath.Join(t.TempDir(), "s")
		h := config.Defaults().HTTP
		h.Address = prefix + path
		if got := run(t, h); got != path {
			t.Errorf("%s: the log says %s", prefix, got)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		res, err := overUnix(path)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%v, %v", res, err)
		}
		// A second one must not take it away.
		if _, err := Configured(t.Context(), httpOf(h), newWorld().deps, process("", slog.New(slog.DiscardHandler))); err == nil || !strings.Contains(err.Error(), path+": another process listens there") {
			t.Errorf("a second server: %v", err)
		}
		if res, err := overUnix(path); err != nil || res.StatusCode != 200 {
			t.Errorf("after a second server: %v, %v", res, err)
		}
	}
}

// TestStaleSocket finds what a killed process left behind.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	h := config.Defaults().HTTP
	h.Address = "unix:" + path
	run(t, h)
	if res, err := overUnix(path); err != nil || res.StatusCode != 200 {
		t.Errorf("%v, %v", res, err)
	}
}

func TestSocketReplacesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	certstest.Write(t, path, []byte("precious"))
	if l, err := new(connections).listen(t.Context(), "unix", path); err == nil {
		l.Close()
		t.Error("listens in place of a file")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}
