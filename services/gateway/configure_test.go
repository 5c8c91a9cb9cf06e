package gateway

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
)

// TestConfigured serves as a config says and stops again.
func TestConfigured(t *testing.T) {
	var out logBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	h := config.Defaults().HTTP
	h.Port, h.Realm, h.Compat = "0", "here", []string{}
	h.AllowOrigin, h.ExternalURL = "https://a.example, https://b.example", "https://hub.example:8443/x"
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
