package allinone

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
)

// TestNoScanner: a program without a scanner does not start with a file that wants one.
func TestNoScanner(t *testing.T) {
	cfg, _, err := config.Parse("c.json", []byte(`{"storage":{"rootDirectory":"/x"},"extensions":{"search":{"cve":{}}}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = linkScans(t.Context(), cfg, Parts{}, nil, nil, rpc.DialOptions{}, daemon.Process{})
	if err == nil || !strings.Contains(err.Error(), "extensions.search.cve: this program has no scanner") {
		t.Errorf("got %v", err)
	}
}
