package allinone

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// fuzzed names what strangers write and programs read, and the fuzz target of each, by the
// directory of its package.
var fuzzed = map[string][2]string{
	"name":                  {"registry", "FuzzParseName"},
	"reference":             {"registry", "FuzzParseReference"},
	"digest":                {"registry", "FuzzParseDigest"},
	"upload id":             {"registry", "FuzzParseUploadID"},
	"manifest and index":    {"registry", "FuzzParseManifest"},
	"configuration":         {"registry/config", "FuzzParse"},
	"route":                 {"services/gateway", "FuzzRoute"},
	"Range":                 {"services/gateway", "FuzzRange"},
	"Content-Range":         {"services/gateway", "FuzzContentRange"},
	"token of an upload":    {"services/gateway", "FuzzToken"},
	"state of an upload":    {"services/blobstore/disk", "FuzzDecode"},
	"the same on S3":        {"services/blobstore/s3", "FuzzReadRecord"},
	"bearer token":          {"services/gateway/auth/jwt", "FuzzToken"},
	"keys of an issuer":     {"services/gateway/auth/jwt", "FuzzKeySet"},
	"Authorization":         {"services/gateway/auth", "FuzzAuthorization"},
	"htpasswd":              {"services/gateway/auth/htpasswd", "FuzzParse"},
	"filter of a directory": {"services/gateway/auth/ldap", "FuzzS042Query"},
	"GraphQL":               {"services/gateway/search", "FuzzQuery"},
	"condition":             {"services/metadata/cel", "FuzzCompile"},
	"pattern":               {"registry/glob", "FuzzCompile"},
	"layer":                 {"services/scanner/contents", "FuzzLayer"},
	"package databases":     {"services/scanner/contents", "FuzzRPM"},
	"message of RPC":        {"registry/rpc", "FuzzChunk"},
	"path of REST":          {"registry/rpc/rest", "FuzzPaths"},
	"challenge":             {"services/syncer/upstream", "FuzzChallenge"},
	"URL of an upstream":    {"registry/outbound", "FuzzURL"},
	"archive of images":     {"registry/transfer", "FuzzArchive"},
}

// TestG24EveryParserIsFuzzed fails when a parser has lost its fuzz target, which
// `make fuzz` would not notice.
func TestG24EveryParserIsFuzzed(t *testing.T) {
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)
	for what, at := range fuzzed {
		files, err := filepath.Glob(filepath.Join("..", at[0], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range target.FindAllSubmatch(b, -1) {
				found = append(found, string(m[1]))
			}
		}
		if !slices.Contains(found, at[1]) {
			t.Errorf("%s: package %s has no target %s, only %q", what, at[0], at[1], found)
		}
	}
}
