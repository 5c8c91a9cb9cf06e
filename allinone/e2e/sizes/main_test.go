package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestPackageOf(t *testing.T) {
	for symbol, want := range map[string]string{
		"main.main":                                     "main",
		"net/http.(*Server).Serve":                      "net/http",
		"google.golang.org/grpc.(*Server).Serve":        "google.golang.org/grpc",
		"gopkg.in/yaml%2ev3.Marshal":                    "gopkg.in/yaml.v3",
		"type:*net/http.Request":                        "net/http",
		"type:.eq.crypto/tls.Config":                    "crypto/tls",
		"go:itab.*os.File,io.Reader":                    "os",
		"slices.SortFunc[go.shape.[]net/url.URL]":       "slices",
		"modernc.org/sqlite/lib._sqlite3VdbeExec":       "modernc.org/sqlite/lib",
		"a/b.f.func1.(*c/d.T).m":                        "a/b",
		"":                                              "",
		"runtime.memmove":                               "runtime",
		"type:[]*github.com/opencontainers/go-digest.D": "github.com/opencontainers/go-digest",
	} {
		if got := packageOf(symbol); got != want {
			t.Errorf("packageOf(%q) = %q, want %q", symbol, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	var b bytes.Buffer
	if err := report(&b, "github.com/berth-registry/berth/allinone/e2e/sizes"); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, "sizes: ") || !strings.Contains(text, "  std\n") || !strings.Contains(text, ours) {
		t.Errorf("got\n%s", text)
	}
}
