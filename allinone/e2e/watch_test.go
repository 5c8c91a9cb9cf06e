//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berth-registry/berth/registry/config"
)

// startWatched starts a system that writes and tells all that it can: at the lowest
// level into the log, as always, and besides into an audit log, metrics and traces.
// When t ends none of it may hold a secret, nor may the configuration as it is shown.
// Metrics are asked for by user; without one they are not looked at.
func startWatched(t *testing.T, opt Options, user, secret string) *System {
	t.Helper()
	dir := t.TempDir()
	told := startCollector(t)
	search := func(what string, text []byte, err error) {
		if err != nil || len(text) == 0 {
			t.Errorf("void: %s: %d bytes, %v", what, len(text), err)
		}
		if line := leak(string(text)); line != "" {
			t.Errorf("a secret in %s: %.400q", what, line)
		}
	}
	t.Cleanup(func() { // after the programs' end
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		var all []byte // only gateways write one
		for _, f := range files {
			text, readErr := os.ReadFile(f)
			all, err = append(all, text...), errors.Join(err, readErr)
		}
		search("the audit log", all, err)
		search("traces", told.text(), nil)
	})
	edit := opt.Edit
	opt.Edit = func(c map[string]any) {
		if edit(c); c["http"].(map[string]any)["auth"] == nil {
			return
		}
		c["log"].(map[string]any)["audit"] = filepath.Join(dir, c["http"].(map[string]any)["port"].(string))
		extensions, _ := c["extensions"].(map[string]any)
		if extensions == nil {
			extensions = map[string]any{}
		}
		extensions["metrics"] = map[string]any{"enable": true, "prometheus": map[string]any{"path": "/metrics"}}
		c["extensions"] = extensions
	}
	opt.Env = append(opt.Env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+told.addr)
	s := Start(t, opt)
	t.Cleanup(func() {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(s.Config), "*.json"))
		if err != nil || len(files) == 0 {
			t.Errorf("void: no configuration: %v", err)
		}
		for _, f := range files {
			c, _, err := config.Load(f)
			if err != nil {
				t.Error(err)
				continue
			}
			search("the configuration as it is shown", []byte(c.String()), nil)
		}
		if user == "" {
			return
		}
		r, err := http.NewRequest(http.MethodGet, s.URL()+"/metrics", nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.SetBasicAuth(user, secret)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK {
			t.Errorf("void: metrics are answered with %s", res.Status)
		}
		search("metrics", text, err)
	})
	return s
}

// collector takes what programs tell an OpenTelemetry collector.
type collector struct {
	addr string

	mu   sync.Mutex // guards what follows
	told []byte     // requests as they came
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", loopback(freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{addr: l.Addr().String()}
	// Whatever is called, and whatever is in it: nothing but its bytes counts.
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request emptypb.Empty
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		c.mu.Lock()
		c.told = append(c.told, request.ProtoReflect().GetUnknown()...)
		c.mu.Unlock()
		return stream.SendMsg(new(emptypb.Empty))
	}))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return c
}

func (c *collector) text() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}
