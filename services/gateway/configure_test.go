package gateway

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// TestConfigured serves as a config says and stops again.
func TestConfigured(t *testing.T) {
	var out logBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	h := config.Defaults().HTTP
	h.Port, h.Realm, h.Compat = "0", "here", []string{}
	h.AllowOrigin, h.ExternalURL = "https://a.example, https://b.example/", "https://hub.example:8443/x"
	w := newWorld()
	unit, err := Configured(t.Context(), httpOf(h), w.deps, process("v9", log))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	_, addr, _ := strings.Cut(strings.TrimSpace(out.take()), "address=")
	url := "http://" + addr

	if got := do(t, "GET", url+"/", nil).want(t, 200).body; !strings.Contains(got, "hub.example:8443/alpine") || !strings.Contains(got, "Berth v9") {
		t.Errorf("the page is %s", got)
	}
	if got := do(t, "GET", url+"/v2/", nil, "Origin: https://b.example").header.Get("Access-Control-Allow-Origin"); got != "https://b.example" {
		t.Errorf("allowed origin %q", got)
	}
	do(t, "PUT", url+"/v2/a/manifests/t", strings.NewReader("{}"), "Content-Type: application/vnd.docker.distribution.manifest.v2+json").want(t, 415)
	if err := unit.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// S-147: that the rules have changed is an event; that other keys have is none.
func TestS147PolicyChanges(t *testing.T) {
	w := newWorld()
	file := filepath.Join(t.TempDir(), "audit")
	h := config.Defaults().HTTP
	h.Port = "0"
	first := httpOf(h)
	first.Log.Audit = file
	next := *first
	p := process("", w.log)
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := next; return &c, nil, nil }, w.log, p.Metrics)
	unit, err := Configured(t.Context(), first, w.deps, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unit.Abandon() })
	for _, change := range []struct {
		make func()
		want string // the objects of events
	}{
		{func() { next.HTTP.UploadsPerClient = 7 }, ""},
		{func() { next.HTTP.OpenUploads = 7 }, ""},
		{func() { next.HTTP.AccessControl = new(registry.AccessRules) }, "http.accessControl"},
		{func() { next.HTTP.Auth = &config.Auth{MTLS: new(config.MTLS)} }, "http.accessControl http.auth"},
	} {
		change.make()
		if err := p.Live.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events(t, bytes.NewBuffer(text)) {
			if e["event"] == "policy.reload" && e["result"] == "ok" {
				got = append(got, e["target"].(string))
			}
		}
		if strings.Join(got, " ") != change.want {
			t.Errorf("events of %q, want %q", got, change.want)
		}
	}
}

func TestConfiguredNeedsItsPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h := config.Defaults().HTTP
	_, h.Port, _ = net.SplitHostPort(taken.Addr().String())
	if unit, err := Configured(t.Context(), httpOf(h), newWorld().deps, process("", slog.New(slog.DiscardHandler))); err == nil || unit.Run != nil {
		t.Errorf("got %v, no error", unit.Name)
	}
}
