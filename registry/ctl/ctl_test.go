package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/client"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
)

var (
	image = []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":{"mediaType":"a/b","digest":"` + string(sum("{}")) + `","size":2},` +
		`"layers":[],"annotations":{"b":"2","a":"\u001b[31mred"}}`)
	signature = []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","artifactType":"t/sig","config":{"mediaType":"a/b","digest":"` + string(sum("{}")) + `","size":2},` +
		`"layers":[],"subject":{"mediaType":"` + registry.TypeManifest + `","digest":"` + string(sum(string(image))) + `","size":` + fmt.Sprint(len(image)) + `}}`)
)

func sum(s string) registry.Digest { return registry.SHA256.FromString(s) }

// serve serves a registry with an image, and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	ctx, me := t.Context(), registry.Actor{ID: "me"}
	for _, content := range []string{"{}", "loose"} {
		if _, err := client.Upload(ctx, blobs, catalog, me, "team/app", strings.NewReader(content), sum(content)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PushManifest(ctx, catalog, me, "team/app", registry.TypeManifest, image, "latest", "v1", "v2"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PushManifest(ctx, catalog, me, "team/app", registry.TypeManifest, signature); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.ServerOptions{})
	rpc.ServeBlobs(srv, blobs)
	rpc.ServeCatalog(srv, catalog)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

// run runs "berth ctl" and returns what it printed, its exit code, and its error.
func run(t *testing.T, args ...string) (out string, code int, message string) {
	t.Helper()
	var b bytes.Buffer
	flags := flag.NewFlagSet("berth ctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := Command("berth").Run(t.Context(), flags, args, &b)
	if err == nil {
		return b.String(), 0, ""
	}
	var exit daemon.Exit
	if !errors.As(err, &exit) {
		return b.String(), 1, err.Error()
	}
	return b.String(), exit.Code, err.Error()
}

// times are what differs from run to run.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)

// TestCommands: the tables and the JSON of every command.
func TestCommands(t *testing.T) {
	address := serve(t)
	d, sig, loose := string(sum(string(image))), string(sum(string(signature))), string(sum("loose"))
	size, sigSize := fmt.Sprint(len(image)), fmt.Sprint(len(signature))
	for _, test := range []struct {
		args  string
		table string
		json  []string
	}{
		{"repos", "REPOSITORY\nteam/app\n", []string{`{"repository":"team/app"}`}},
		{"tags team/app", "TAG\nlatest\nv1\nv2\n", []string{`{"tag":"latest"}`, `{"tag":"v1"}`, `{"tag":"v2"}`}},
		{"tags --limit 1 team/app", "TAG\nlatest\n", []string{`{"tag":"latest"}`}},
		{"history team/app:v1", "TIME  ACTOR  DIGEST\nT     me     " + d + "\n", []string{`{"actor":"me","digest":"` + d + `","time":"T"}`}},
		{"history team/app:never", "TIME  ACTOR  DIGEST\n", nil},
		{"manifest team/app", "digest         " + d + "\nmedia type     " + registry.TypeManifest + "\nsize           " + size +
			"\nartifact type  a/b\nsubject        -\nannotation     a=\ufffd[31mred\nannotation     b=2\nrefers to      " + string(sum("{}")) + "  2\n",
			[]string{`{"annotations":{"a":"\u001b[31mred","b":"2"},"artifactType":"a/b","digest":"` + d + `","mediaType":"` + registry.TypeManifest +
				`","references":[{"digest":"` + string(sum("{}")) + `","size":2}],"size":` + size + `,"subject":""}`}},
		{"manifest --content team/app@" + d, string(image), []string{string(image)}},
		{"referrers team/app:v1", "DIGEST" + strings.Repeat(" ", 67) + "SIZE  ARTIFACT TYPE\n" + sig + "  " + sigSize + "   t/sig\n",
			[]string{`{"mediaType":"` + registry.TypeManifest + `","digest":"` + sig + `","size":` + sigSize + `,"artifactType":"t/sig"}`}},
		{"referrers --type t/other team/app@" + d, "DIGEST  SIZE  ARTIFACT TYPE\n", nil},
		{"blob team/app@" + loose, "digest    " + loose + "\nsize      5\nmanifest  false\n", []string{`{"digest":"` + loose + `","manifest":false,"size":5}`}},
		{"health", "SERVICE     SERVING  REMARK\nblobstore   true     -\nmetadata    true     -\n",
			[]string{`{"readOnly":"","service":"blobstore","serving":true}`, `{"readOnly":"","service":"metadata","serving":true}`}},
	} {
		args := append(strings.Fields(test.args), "--metadata", address, "--blobstore", address)
		out, code, message := run(t, args...)
		if diff := cmp.Diff(columns(test.table), columns(times.ReplaceAllString(out, "T"))); diff != "" || code != 0 {
			t.Errorf("%s: exit code %d, %s: %s", test.args, code, message, diff)
		}
		out, code, message = run(t, append(args, "--json")...)
		var lines []string
		if out != "" {
			lines = strings.Split(strings.TrimSuffix(times.ReplaceAllString(out, "T"), "\n"), "\n")
		}
		if diff := cmp.Diff(test.json, lines); diff != "" || code != 0 {
			t.Errorf("%s --json: exit code %d, %s: %s", test.args, code, message, diff)
		}
		for _, l := range lines {
			if !json.Valid([]byte(l)) {
				t.Errorf("%s --json: %s", test.args, l)
			}
		}
	}
}

// columns returns a table with one space between columns.
func columns(s string) string { return regexp.MustCompile(` {2,}`).ReplaceAllString(s, " ") }

// TestChanges: what deletes does delete, and says what.
func TestChanges(t *testing.T) {
	address := serve(t)
	d := string(sum(string(image)))
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"tag team/app:v1 stable", "team/app:stable points to " + d + "\n", 0},
		{"delete --if-digest " + string(sum("other")) + " team/app:v1", "", 1},
		{"delete --if-digest " + d + " team/app:v1", "deleted team/app:v1\n", 0},
		{"delete team/app:v1", "", 1},
		{"unlink team/app@" + string(sum("{}")), "", 1}, // in use
		{"unlink team/app@" + string(sum("loose")), "unlinked team/app@" + string(sum("loose")) + "\n", 0},
		{"unlink --json team/app@" + string(sum("loose")), "", 1},
		{"delete --json team/app@" + d, `{"deleted":"team/app@` + d + `"}` + "\n", 0},
		{"tags team/app", "TAG\n", 0},
		{"manifest team/app", "", 1},
	} {
		out, code, message := run(t, append(strings.Fields(test.args), "--metadata", address)...)
		if out != test.want || code != test.code || (message != "") != (code != 0) {
			t.Errorf("%s: got exit code %d, %q, %s", test.args, code, out, message)
		}
	}
}

// TestExitCodes: who is told what when something is wrong.
func TestExitCodes(t *testing.T) {
	address := serve(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	save := func(text string) string {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	listens := func(address string) string {
		return save(`{"storage":{"rootDirectory":"/d"},"http":{"port":"0"},"services":{"metadata":{"listen":"` + address + `"}}}`)
	}
	silent := save(`{"storage":{"rootDirectory":"/d"},"http":{"port":"0"}}`)
	there := " --metadata " + address
	for _, test := range []struct {
		args string
		code int
		want string // in the message
	}{
		{"repos", 2, "--config FILE or --metadata ADDRESS"},
		{"repos --config " + silent, 3, "no process of this machine serves"},
		{"repos --config /none", 3, "no such file"},
		{"repos --config " + listens(address), 0, ""},
		{"repos --config " + listens("0.0.0.0:"+address[strings.LastIndex(address, ":")+1:]), 0, ""},
		{"repos --config " + listens(nobody.Addr().String()), 3, "is the registry running"},
		{"repos --metadata " + nobody.Addr().String(), 3, "services.metadata.listen"},
		{"repos --metadata 192.0.2.1:7002", 3, "another machine"},
		{"repos --tls-cert x" + there, 2, "belong together"},
		{"repos --tls-cert /none --tls-key /none --tls-cacert /none" + there, 3, "no such file"},
		{"repos more" + there, 2, "unexpected argument"},
		{"repos --none" + there, 2, "not defined"},
		{"tags" + there, 2, "needs REPO"},
		{"tags nowhere" + there, 1, "not known"},
		{"tags team/app:v1" + there, 2, "must be a repository"},
		{"tags NO" + there, 2, "lower-case"},
		{"history team/app" + there, 2, "must be REPO:TAG"},
		{"history --limit 0 team/app:v1" + there, 2, "1 to 1000"},
		{"manifest team/app:never" + there, 1, "manifest unknown"},
		{"manifest team/app:.x" + there, 2, "tag"},
		{"manifest team/app@sha256:x" + there, 2, "digest"},
		{"referrers team/app:never" + there, 1, "manifest unknown"},
		{"blob team/app" + there, 2, "must be REPO@DIGEST"},
		{"blob team/app@" + string(sum("none")) + there, 1, "blob unknown"},
		{"tag team/app:v1" + there, 2, "needs REPO"},
		{"tag team/app:v1 .x" + there, 2, "tag"},
		{"delete team/app" + there, 2, "must be REPO:TAG or REPO@DIGEST"},
		{"delete --if-digest x team/app:v1" + there, 2, "digest"},
		{"delete --if-digest " + string(sum("x")) + " team/app@" + string(sum("x")) + there, 2, "is for tags"},
		{"unlink team/app:v1" + there, 2, "must be REPO@DIGEST"},
		{"health --blobstore " + nobody.Addr().String() + there, 1, "blobstore"},
		{"nonsense" + there, 2, "unknown command"},
		{"--help", 0, ""},
		{"tags --help", 0, ""},
	} {
		_, code, message := run(t, strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(message, test.want) {
			t.Errorf("%s: got exit code %d, %q; want %d, %q", test.args, code, message, test.code, test.want)
		}
	}
}

// TestHelp: each command says what it does, with an example.
func TestHelp(t *testing.T) {
	all, _, _ := run(t, "--help")
	for _, name := range []string{"repos", "tags", "history", "manifest", "referrers", "blob", "tag", "delete", "unlink", "health"} {
		out, code, _ := run(t, name, "--help")
		if code != 0 || !strings.Contains(out, "berth ctl "+name) || !strings.Contains(out, "--json") || !strings.Contains(out, "Examples:") {
			t.Errorf("%s: %s", name, out)
		}
		if !strings.Contains(all, "\n  "+name) {
			t.Errorf("help does not list %s", name)
		}
	}
}
