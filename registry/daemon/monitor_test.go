package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/metrics"
)

func TestMonitor(t *testing.T) {
	var out bytes.Buffer
	p := Process{Log: slog.New(slog.NewJSONHandler(&out, nil)), Metrics: metrics.New(), Ready: new(Readiness)}
	p.Metrics.Counter("x_total", "X.").Inc()
	var sick error
	unit, err := Monitor(t.Context(), "127.0.0.1:0", nil, p, func(context.Context) error { return sick })
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Address string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- unit.Run() }()
	get := func(method, path string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+line.Address+path, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	want := func(path string, status int, text string) {
		t.Helper()
		if got, body := get("GET", path); got != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, status, text)
		}
	}
	want("/readyz", 503, "stopping") // not up yet
	p.Ready.up.Store(true)
	want("/readyz", 200, "ok")
	want("/livez", 200, "ok")
	want("/metrics", 200, "\nx_total 1\n")
	want("/debug/pprof/", 404, "")
	sick = errors.New("secret detail")
	want("/readyz", 503, "unavailable\n")
	want("/livez", 200, "ok")
	if got, _ := get("POST", "/metrics"); got != 405 {
		t.Errorf("POST: %d", got)
	}
	if err := unit.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if unit, err := Monitor(t.Context(), "", nil, p, nil); err != nil || unit.Run != nil {
		t.Errorf("without an address: %v", err)
	}
}
