package allinone

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
)

// process is an all-in-one program on a unix socket.
type process struct {
	socket string
	client *http.Client
	stop   context.CancelFunc // what SIGTERM does
	ended  chan error
}

func start(t *testing.T, root string, drain time.Duration) *process {
	t.Helper()
	p := &process{socket: filepath.Join(t.TempDir(), "s"), ended: make(chan error, 1)}
	p.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.socket)
	}}}
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = root
	cfg.HTTP.Address = "unix:" + p.socket
	in := daemon.Process{Log: slog.New(slog.DiscardHandler), Ready: new(daemon.Readiness), Metrics: metrics.New()}
	units, err := Link(t.Context(), cfg, localParts(), in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { p.ended <- daemon.Run(ctx, in.Log, daemon.Options{Ready: in.Ready, Drain: drain}, units...) }()
	t.Cleanup(cancel)
	return p
}

// do sends a request and returns its status and header.
func (p *process) do(t *testing.T, method, target string, body io.Reader) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, "http://registry"+target, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, nil
	}
	return res.StatusCode, res.Header
}

// slowUpload begins an upload whose body comes from the pipe, and returns when
// the store has its first bytes.
func (p *process) slowUpload(t *testing.T, first []byte) (location string, rest *io.PipeWriter, status chan int) {
	t.Helper()
	code, header := p.do(t, "POST", "/v2/a/blobs/uploads/", nil)
	if code != 202 {
		t.Fatalf("POST: %d", code)
	}
	location = header.Get("Location")
	r, w := io.Pipe()
	status = make(chan int, 1)
	go func() {
		code, _ := p.do(t, "PATCH", location, r)
		status <- code
	}()
	if _, err := w.Write(first); err != nil {
		t.Fatal(err)
	}
	p.offset(t, location, len(first)/2) // the rest may wait in a buffer
	return location, w, status
}

// offset asks where a session stands until it has at least n bytes.
func (p *process) offset(t *testing.T, location string, n int) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		code, header := p.do(t, "GET", location, nil)
		var last int
		if _, err := fmt.Sscanf(header.Get("Range"), "0-%d", &last); err != nil || code != 204 {
			t.Fatalf("GET of a session: %d %v", code, header)
		}
		if last+1 >= n {
			return last + 1
		}
		if time.Now().After(deadline) {
			t.Fatalf("the session has %d bytes, want %d", last+1, n)
		}
	}
}

// TestDrainOfUploads tells a process to stop in the middle of two uploads on
// disk. It takes no new connection, one upload ends well, the other is cut off at
// the end of the time; its bytes are there after the restart, and the client goes
// on with the Location it has.
func TestDrainOfUploads(t *testing.T) {
	root := t.TempDir()
	half := bytes.Repeat([]byte("berth"), 1<<18)
	whole := append(bytes.Clone(half), half...)
	d := registry.SHA256.FromBytes(whole).String()

	p := start(t, root, 2*time.Second)
	stuck, stuckRest, stuckStatus := p.slowUpload(t, half)
	defer stuckRest.Close()
	honest, honestRest, honestStatus := p.slowUpload(t, half)
	p.stop()
	for {
		c, err := net.Dial("unix", p.socket)
		if err != nil {
			break // it listens no more
		}
		c.Close()
	}
	if _, err := honestRest.Write(half); err != nil {
		t.Error(err)
	}
	honestRest.Close()
	if code := <-honestStatus; code != 202 {
		t.Errorf("the upload that ended in time: status %d", code)
	}
	if err := <-p.ended; err == nil {
		t.Error("the process does not say that it cut something off")
	}
	stuckRest.Close()
	if code := <-stuckStatus; code == 202 {
		t.Error("the upload that did not end was accepted")
	}

	p = start(t, root, time.Second)
	if n := p.offset(t, honest, len(whole)); n != len(whole) {
		t.Errorf("the upload that ended in time has %d bytes, want %d", n, len(whole))
	}
	kept := p.offset(t, stuck, len(half)/2)
	if code, _ := p.do(t, "PUT", honest+"&digest="+d, nil); code != 201 {
		t.Errorf("finishing what ended in time: %d", code)
	}
	if code, _ := p.do(t, "PATCH", stuck, bytes.NewReader(whole[kept:])); code != 202 {
		t.Errorf("going on with what was cut off: %d", code)
	}
	if code, _ := p.do(t, "PUT", stuck+"&digest="+d, nil); code != 201 {
		t.Errorf("finishing what was cut off: %d", code)
	}
	p.stop()
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}
