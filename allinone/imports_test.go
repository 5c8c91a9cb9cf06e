package allinone

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-registry/berth/"

// importRule says what the packages below from may import, besides the standard
// library: only what begins with one of may. An empty may allows all but never.
type importRule struct {
	from  string
	may   []string
	never []string
	why   string
}

var importRules = []importRule{
	{
		from: "registry",
		may:  []string{"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"},
		why:  "the contract needs the standard library and the OCI types, nothing else",
	},
	{
		from: "registry/memory",
		may:  []string{module + "registry", "github.com/opencontainers/"},
		why:  "the ports in memory need the contract only",
	},
	{
		from:  "registry/daemon",
		never: []string{"google.golang.org/grpc", module + "proto", module + "services"},
		why:   "running a process has nothing to do with gRPC",
	},
	{
		from:  "registry/rpc",
		never: []string{module + "services"},
		why:   "adapters do not know implementations",
	},
	{
		from:  "registry/rpc/rest",
		never: []string{module + "services", module + "registry/config"},
		why:   "the REST API answers from the ports",
	},
	{
		from:  "services/metadata/cmd/berth-metadata",
		never: []string{module + "proto/gen/berth/api", module + "registry/rpc/rest"}, // grpc-gateway itself comes with the exporter of traces
		why:   "REST is the gateway's",
	},
	{
		from:  "services/blobstore/cmd/berth-blobstore",
		never: []string{module + "proto/gen/berth/api", module + "registry/rpc/rest"}, // grpc-gateway itself comes with the exporter of traces
		why:   "REST is the gateway's",
	},
	{
		from:  "services/gateway",
		never: []string{module + "services/blobstore", module + "services/metadata", module + "registry/rpc", module + "proto", "google.golang.org/grpc", "database/sql"},
		why:   "services meet only in the contract, and gRPC stops at registry/rpc",
	},
	{
		from:  "services/blobstore",
		never: []string{module + "services/gateway", module + "services/metadata", module + "registry/rpc", module + "proto", "google.golang.org/grpc", "database/sql", "github.com/aws/"},
		why:   "services meet only in the contract, and gRPC stops at registry/rpc",
	},
	{
		from:  "services/blobstore/disk",
		never: []string{module + "services/gateway", module + "services/metadata", module + "registry/rpc", "google.golang.org/grpc"},
		why:   "a driver knows its service only",
	},
	{
		from:  "services/blobstore/s3",
		never: []string{module + "services/gateway", module + "services/metadata", module + "registry/rpc", "google.golang.org/grpc"},
		why:   "a driver knows its service only",
	},
	{
		from:  "services/metadata",
		never: []string{module + "services/gateway", module + "services/blobstore", module + "registry/rpc", module + "proto", "google.golang.org/grpc", "modernc.org/"},
		why:   "services meet only in the contract; database drivers come from main",
	},
	{
		from:  "services/syncer",
		never: []string{module + "services/gateway", module + "services/blobstore", module + "services/metadata", module + "registry/rpc", module + "proto", "google.golang.org/grpc", "modernc.org/"},
		why:   "services meet only in the contract; database drivers come from main",
	},
	{
		from:  "services/scanner",
		never: []string{module + "services/gateway", module + "services/blobstore", module + "services/metadata", module + "registry/rpc", module + "proto", "google.golang.org/grpc", "modernc.org/", "text/template", "html/template"},
		why:   "services meet only in the contract; database drivers come from main",
	},
	{
		from:  "services/metadata/sqlite",
		never: []string{module + "services/gateway", module + "services/blobstore", module + "registry/rpc", "google.golang.org/grpc"},
		why:   "a driver knows its service only",
	},
	{
		from:  "allinone/cmd/berth-edge",
		never: []string{"github.com/aws/", module + "services/blobstore/s3", module + "services/scanner", "github.com/aquasecurity/"},
		why:   "small machines have disks, and nothing is scanned on them",
	},
	{
		from:  "allinone",
		never: []string{"modernc.org/", module + "services/blobstore/disk", module + "services/blobstore/s3", module + "services/metadata/sqlite"},
		why:   "link.go takes constructors; drivers come from main",
	},
}

func TestImports(t *testing.T) {
	for _, rule := range importRules {
		t.Run(rule.from, func(t *testing.T) {
			for _, dep := range depsOf(t, rule.from) {
				if broken(rule, dep) {
					t.Errorf("%s imports %s: %s", rule.from, dep, rule.why)
				}
			}
		})
	}
}

func broken(rule importRule, dep string) bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(p string) bool {
			return dep == strings.TrimSuffix(p, "/") || strings.HasPrefix(dep, strings.TrimSuffix(p, "/")+"/")
		})
	}
	if has(rule.never) {
		return true
	}
	external := strings.Contains(strings.SplitN(dep, "/", 2)[0], ".")
	return len(rule.may) > 0 && external && !has(rule.may)
}

// TestImportRulesBite makes sure that a rule can fail.
func TestImportRulesBite(t *testing.T) {
	for _, c := range []struct {
		from, dep string
		want      bool
	}{
		{"registry", "google.golang.org/grpc", true},
		{"registry", "strings", false},
		{"registry", "github.com/opencontainers/go-digest", false},
		{"services/gateway", module + "registry/rpc", true},
		{"services/gateway", module + "registry", false},
		{"allinone", "modernc.org/sqlite", true},
	} {
		i := slices.IndexFunc(importRules, func(r importRule) bool { return r.from == c.from })
		if got := broken(importRules[i], c.dep); got != c.want {
			t.Errorf("%s importing %s: broken = %v, want %v", c.from, c.dep, got, c.want)
		}
	}
}

// depsOf returns all packages that a package needs, without itself.
func depsOf(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	return slices.DeleteFunc(deps, func(d string) bool { return d == module+pkg })
}

// TestS145NoDebugHandlers: packages that put handlers for profiles and variables
// into net/http's own mux are in no program.
func TestS145NoDebugHandlers(t *testing.T) {
	for _, program := range []string{"allinone/cmd/berth", "allinone/cmd/berth-edge", "services/gateway/cmd/berth-gateway", "services/blobstore/cmd/berth-blobstore", "services/metadata/cmd/berth-metadata", "services/syncer/cmd/berth-syncer", "services/scanner/cmd/berth-scanner"} {
		out, err := exec.Command("go", "list", "-deps", "-tags", "grpcnotrace", module+program).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, "net/http") {
			t.Errorf("void: %s has no HTTP", program)
		}
		for _, never := range []string{"net/http/pprof", "expvar", "golang.org/x/net/trace"} {
			if slices.Contains(deps, never) {
				t.Errorf("%s has %s", program, never)
			}
		}
	}
}
