package cli

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
)

// TestHelp reads what a program that speaks HTTP, and one that does not, say of
// themselves.
func TestHelp(t *testing.T) {
	front := Program{Name: "front", Serve: Server{HTTP: true}}
	back := Program{Name: "back", Serve: Server{Program: config.OnlyBlobstore, NeedsFile: true}}
	front.Commands = []Command{{Name: "own", Summary: "of its own", Run: func(_ context.Context, flags *flag.FlagSet, args []string, _ io.Writer) error {
		flags.Bool("yes", false, "say yes")
		_, err := ParseArgs(flags, args, 0)
		return err
	}}}
	front.Commands = append(front.Commands, Group(Command{Name: "many", Summary: "more than one"}, front.Commands...))
	for _, test := range []struct {
		program Program
		args    string
		want    string
		not     string
	}{
		{front, "--help", "front serve /etc/berth/config.json", "back"},
		{front, "serve --help", "told to stop (default 25s)", "FILE (default"},
		{front, "serve --help", "--drain-delay TIME", ""},
		{back, "serve --help", "--drain TIME", "--drain-delay"},
		{front, "healthcheck --help", "front healthcheck --url http://", ""},
		{front, "own --help", "say yes\n", "default"},
		{front, "many", "front many COMMAND", "serve"},
		{front, "many own --help", "Usage:\n  front many own", "default"},
		{front, "many help own", "say yes\n", ""},
		{back, "--help", "back healthcheck config.json", "--url"},
		{back, "help healthcheck", "for the answer (default 5s)", ""},
	} {
		var out bytes.Buffer
		err := test.program.Run(t.Context(), strings.Fields(test.args), &out)
		if err != nil || !strings.Contains(out.String(), test.want) || test.not != "" && strings.Contains(out.String(), test.not) {
			t.Errorf("%s %s: %v; want %q and not %q in\n%s", test.program.Name, test.args, err, test.want, test.not, out.String())
		}
	}
}

func TestAnnounce(t *testing.T) {
	cfg := config.WithoutFile()
	cfg.Storage.RootDirectory = "/data"
	for _, test := range []struct {
		serve     Server
		want, not string
	}{
		{Server{HTTP: true}, "data=/data address=127.0.0.1:5000 authentication=false", "WARN"},
		{Server{HTTP: true, Program: config.OnlyGateway}, "address=127.0.0.1:5000", "data="},
		{Server{Program: config.OnlyBlobstore}, `msg="starting p" version=v data=/data`, "address="},
	} {
		var out bytes.Buffer
		Program{Name: "p", Version: "v", Serve: test.serve}.announce(cfg, slog.New(slog.NewTextHandler(&out, nil)))
		if !strings.Contains(out.String(), test.want) || strings.Contains(out.String(), test.not) {
			t.Errorf("want %q and not %q in %s", test.want, test.not, out.String())
		}
	}
}

// TestHealthcheckOfAnother asks with a file that does not configure the program.
func TestHealthcheckOfAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"storage":{"rootDirectory":"/x"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Program{Name: "p", Serve: Server{Program: config.OnlyMetadata, NeedsFile: true, Health: func(context.Context, *config.Config) error {
		t.Error("asked nobody")
		return nil
	}}}
	err := p.Run(t.Context(), []string{"healthcheck", file}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "services.metadata.listen: needed") {
		t.Errorf("got %v", err)
	}
}
