package allinone

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// clients make HTTP requests by other means than package outbound.
var clients = regexp.MustCompile(`\bhttp\.(Client\{|Transport\{|DefaultClient|DefaultTransport|Get\(|Post\(|PostForm\(|Head\()`)

// ownClients are the files that may, and why.
var ownClients = map[string]string{
	"registry/outbound/client.go":        "it is the client",
	"registry/cli/healthcheck.go":        "asks this machine's own server, or what the command line names",
	"registry/ctl/login.go":              "a user asks the registry that the command line names, and follows no redirect",
	"services/blobstore/s3/transport.go": "the operator's endpoint of S3",
	"services/blobstore/s3/configure.go": "the operator's endpoint of S3",
	"services/blobstore/s3/doctor.go":    "the operator's endpoint of S3",
	"services/blobstore/s3/s3test":       "for tests",
	"allinone/zotroot/check.go":          "for tests",
	"allinone/e2e":                       "for tests",
}

// TestS060OnlyOneClient: no part of a program sends HTTP requests to others except
// through package outbound.
func TestS060OnlyOneClient(t *testing.T) {
	used := map[string]bool{}
	for _, top := range []string{"registry", "services", "allinone"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || !clients.Match(text) {
				return err
			}
			name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
			for _, may := range []string{name, filepath.ToSlash(filepath.Dir(name))} {
				if ownClients[may] != "" {
					used[may] = true
					return nil
				}
			}
			t.Errorf("%s has an HTTP client of its own; use registry/outbound", name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range ownClients {
		if !used[name] && !strings.HasSuffix(name, "e2e") {
			t.Errorf("%s is listed and has no client", name)
		}
	}
}
