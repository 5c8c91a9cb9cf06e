package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrograms(t *testing.T) {
	const root, addresses = `"storage":{"rootDirectory":"/x"}`, `"insecure":true,"blobstore":{"address":"b:1"},"metadata":{"address":["m:1","m:2"]}`
	const secure = `"tls":{"cert":"c","key":"k","cacert":"a"}`
	const bucket = `"storageDriver":{"name":"s3","bucket":"b","region":"r"}`
	for _, test := range []struct {
		name    string
		program Program
		text    string
		want    string // in the error; empty: none
	}{
		{"all in one", AllInOne, `{` + root + `}`, ""},
		{"all in one without a root", AllInOne, `{"http":{"port":1}}`, "storage.rootDirectory: needed"},
		{"all in one with far services", AllInOne, `{"services":{` + addresses + `}}`, ""},
		{"all in one with a far blobstore", AllInOne, `{"services":{"blobstore":{"address":"127.0.0.1:1"}}}`, "storage.rootDirectory: needed"},
		{"all in one that listens", AllInOne, `{` + root + `,"services":{"blobstore":{"listen":"127.0.0.1:7001"},"metadata":{"listen":"[::1]:7002"}}}`, ""},
		{"all in one with its blobstore in the open", AllInOne, `{` + root + `,"services":{"blobstore":{"listen":"0.0.0.0:7001"}}}`, "services.blobstore.listen: other machines can reach"},
		{"all in one with its metadata in the open", AllInOne, `{` + root + `,"services":{"metadata":{"listen":":7002"}}}`, "services.metadata.listen: other machines can reach"},
		{"all in one open on purpose", AllInOne, `{` + root + `,"services":{"insecure":true,"metadata":{"listen":":7002"}}}`, ""},
		{"all in one beside services that listen", AllInOne, `{"services":{"insecure":true,"blobstore":{"listen":":7001","address":"b:7001"},"metadata":{"listen":":7002","address":"m:7002"}}}`, ""},
		{"gateway", OnlyGateway, `{"services":{` + addresses + `}}`, ""},
		{"gateway with a host for an address", OnlyGateway, `{"services":{"insecure":true,"blobstore":{"address":"b"},"metadata":{"address":"m:1"}}}`, "services.blobstore.address: must be host:port"},
		{"gateway with an IPv6 address", OnlyGateway, `{"services":{"insecure":true,"blobstore":{"address":"b:1"},"metadata":{"address":["m:1","[::1]"]}}}`, "[::1] lacks the port"},
		{"gateway with gRPC targets", OnlyGateway, `{"services":{"insecure":true,"blobstore":{"address":"dns:///b:1"},"metadata":{"address":"unix:///run/m"}}}`, ""},
		{"gateway on this machine", OnlyGateway, `{"services":{"blobstore":{"address":["dns:///localhost:1","ipv4:127.0.0.1:1,127.0.0.2:1"]},"metadata":{"address":["unix:///run/m","[::1]:2"]}}}`, ""},
		{"gateway in plaintext", OnlyGateway, `{"services":{"blobstore":{"address":"b:1"},"metadata":{"address":"127.0.0.1:2"}}}`, "services.blobstore.address: b:1 is on another machine, and there is no services.tls"},
		{"gateway in plaintext by DNS", OnlyGateway, `{"services":{"blobstore":{"address":"127.0.0.1:1"},"metadata":{"address":"dns:///m:2"}}}`, "dns:///m:2 is on another machine"},
		{"gateway in plaintext by a list", OnlyGateway, `{"services":{"blobstore":{"address":"127.0.0.1:1"},"metadata":{"address":"ipv4:127.0.0.1:2,10.0.0.1:2"}}}`, "is on another machine"},
		{"gateway with TLS", OnlyGateway, `{"services":{` + secure + `,"blobstore":{"address":["b:1","b:2"]},"metadata":{"address":"dns:///m:2"}}}`, ""},
		{"metadata that dials in plaintext", OnlyMetadata, `{` + root + `,"services":{"blobstore":{"address":"b:1"},"metadata":{"listen":"127.0.0.1:7002"}}}`, "b:1 is on another machine"},
		{"blobstore with TLS", OnlyBlobstore, `{` + root + `,"services":{` + secure + `,"blobstore":{"listen":":7001"}}}`, ""},
		{"several blobstores on one disk", OnlyBlobstore, `{` + root + `,"services":{` + secure + `,"blobstore":{"listen":":7001","address":["b:1","b:2"]}}}`, "several blobstores need storage.storageDriver"},
		{"several blobstores, some of it on one disk", OnlyGateway, `{"storage":{"rootDirectory":"/x",` + bucket + `,"subPaths":{"/a":{"rootDirectory":"/a"}}},"services":{` + secure + `,"blobstore":{"address":["b:1","b:2"]},"metadata":{"address":"m:1"}}}`, "several blobstores"},
		{"several syncers on SQLite", OnlyGateway, `{` + root + `,"services":{` + secure + `,"blobstore":{"address":"b:1"},"metadata":{"address":"m:1"},"syncer":{"address":["s:1","s:2"]}}}`, "several syncers need storage.metadata.driver postgres"},
		{"several blobstores on S3", OnlyBlobstore, `{"storage":{"rootDirectory":"/x",` + bucket + `},"services":{` + secure + `,"blobstore":{"listen":":7001","address":["b:1","b:2"]}}}`, ""},
		{"several catalogs in one SQLite", OnlyMetadata, `{` + root + `,"services":{` + secure + `,"metadata":{"listen":":7002","address":["m:1","m:2"]}}}`, "several metadata services need"},
		{"several catalogs in PostgreSQL", OnlyMetadata, `{"storage":{"rootDirectory":"/x","metadata":{"driver":"postgres","dsn":"x"}},"services":{` + secure + `,"metadata":{"listen":":7002","address":["m:1","m:2"]}}}`, ""},
		{"gateway alone", OnlyGateway, `{` + root + `}`, "services.blobstore.address: needed"},
		{"blobstore", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"127.0.0.1:7001"}}}`, ""},
		{"blobstore on ::1", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"[::1]:7001"}}}`, ""},
		{"blobstore on localhost", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"localhost:0"}}}`, ""},
		{"blobstore without a root", OnlyBlobstore, `{"services":{"blobstore":{"listen":"127.0.0.1:7001"}}}`, "storage.rootDirectory: needed"},
		{"blobstore that does not listen", OnlyBlobstore, `{` + root + `}`, "services.blobstore.listen: needed"},
		{"blobstore in the open", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"0.0.0.0:7001"}}}`, "without TLS"},
		{"blobstore everywhere", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":":7001"}}}`, "without TLS"},
		{"blobstore by name", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"blobstore:7001"}}}`, "without TLS"},
		{"blobstore open on purpose", OnlyBlobstore, `{` + root + `,"services":{"insecure":true,"blobstore":{"listen":":7001"}}}`, ""},
		{"blobstore without a port", OnlyBlobstore, `{` + root + `,"services":{"blobstore":{"listen":"127.0.0.1"}}}`, "must be host:port"},
		{"metadata", OnlyMetadata, `{` + root + `,"services":{"metadata":{"listen":"127.0.0.1:7002"}}}`, ""},
		{"metadata without a root", OnlyMetadata, `{"services":{"metadata":{"listen":"127.0.0.1:7002"}}}`, "storage.rootDirectory: needed"},
		{"metadata on PostgreSQL", OnlyMetadata, `{"storage":{"metadata":{"driver":"postgres","dsn":"x"}},"services":{"metadata":{"listen":"127.0.0.1:7002"}}}`, ""},
		{"metadata in the open", OnlyMetadata, `{` + root + `,"services":{"metadata":{"listen":"0.0.0.0:1"}}}`, "listen on a loopback address"},
		{"all in one with a bucket and a SQLite file", AllInOne, `{"storage":{"rootDirectory":"/x",` + bucket + `}}`, "storage.storageDriver: bytes in an object store need a catalog that outlives this machine"},
		{"all in one with a bucket for a sub path", AllInOne, `{"storage":{"rootDirectory":"/x","subPaths":{"/a":{` + bucket + `}}}}`, "storage.subPaths./a.storageDriver: bytes in an object store"},
		{"all in one with a bucket and PostgreSQL", AllInOne, `{"storage":{"metadata":{"driver":"postgres","dsn":"x"},` + bucket + `}}`, ""},
		{"all in one with a bucket and a far catalog", AllInOne, `{"storage":{` + bucket + `},"services":{"insecure":true,"metadata":{"address":"m:1"}}}`, ""},
		{"blobstore on a bucket", OnlyBlobstore, `{"storage":{` + bucket + `},"services":{"blobstore":{"listen":"127.0.0.1:7001"}}}`, ""},
		{"metadata beside a bucket", OnlyMetadata, `{"storage":{"rootDirectory":"/x",` + bucket + `},"services":{"metadata":{"listen":"127.0.0.1:7002"}}}`, ""},
		{"syncer", OnlySyncer, `{"services":{` + addresses + `,"syncer":{"listen":"127.0.0.1:7003"}}}`, ""},
		{"syncer alone", OnlySyncer, `{"services":{"syncer":{"listen":"127.0.0.1:7003"}}}`, "services.metadata.address: needed"},
		{"scanner", OnlyScanner, `{"services":{` + addresses + `,"scanner":{"listen":"127.0.0.1:7004"}}}`, ""},
		{"scanner that does not listen", OnlyScanner, `{"services":{` + addresses + `}}`, "services.scanner.listen: needed"},
	} {
		err := mustParse(t, "x.json", test.text).ValidateFor(test.program)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestLoadFor(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "storage: {rootDirectory: /x}\nextensions: {search: {}, ui: {}}\n")
	c, warnings, err := LoadFor(good, AllInOne, nil)
	if err != nil || c.Storage.RootDirectory != "/x" || len(warnings) != 1 {
		t.Errorf("good file: %v, %v", warnings, err)
	}
	if c, warnings, err := LoadFor("", AllInOne, nil); err != nil || len(warnings) != 0 || c.HTTP.Port != "5000" {
		t.Errorf("no file: %v, %v", warnings, err)
	}
	if _, _, err := LoadFor("", OnlyGateway, nil); err == nil {
		t.Error("a gateway without a file knows no services")
	}
	refused := write("refused.json", `{"storage":{"rootDirectory":"/x"},"http":{"externalUrl":"https://r.test","auth":{"openid":{"providers":{"x":{"issuer":"https://sso.test","clientid":"y","clientsecret":"z","scopes":["openid"],"keypath":"/k"}}}}}}`)
	if _, _, err := LoadFor(refused, AllInOne, nil); err == nil || !strings.Contains(err.Error(), "--accept-unbuilt http.auth.openid") {
		t.Errorf("refused key: %v", err)
	}
	if _, warnings, err := LoadFor(refused, AllInOne, []string{"http.auth.openid"}); err != nil || len(warnings) != 1 {
		t.Errorf("accepted key: %v, %v", warnings, err)
	}
	if _, _, err := LoadFor(filepath.Join(dir, "none.json"), AllInOne, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, _, err := LoadFor(write("big.json", strings.Repeat(" ", maxBytes+1)), AllInOne, nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge file: %v", err)
	}
}

// TestMetricsOfServices may be read by other machines only with TLS, or if the
// file says that the network is trusted.
func TestMetricsOfServices(t *testing.T) {
	for _, test := range []struct {
		metrics, more, want string
	}{
		{"127.0.0.1:9001", "", ""},
		{"0.0.0.0:9001", "", "services.blobstore.metrics: other machines can reach this address"},
		{"0.0.0.0:9001", `, "insecure": true`, ""},
		{"9001", "", "services.blobstore.metrics: must be host:port"},
		{"127.0.0.1:x!", "", "services.blobstore.metrics: must be a port number"},
	} {
		text := `{"storage": {"rootDirectory": "/x"}, "services": {"blobstore": {"listen": "127.0.0.1:1", "metrics": "` + test.metrics + `"}` + test.more + `}}`
		c, _, err := Parse("c.json", []byte(text), func(string) (string, bool) { return "", false })
		if err == nil {
			err = c.ValidateFor(OnlyBlobstore)
		}
		if got := fmt.Sprint(err); (test.want == "") != (err == nil) || !strings.Contains(got, test.want) && err != nil {
			t.Errorf("%s%s: got %v, want %q", test.metrics, test.more, err, test.want)
		}
	}
}
