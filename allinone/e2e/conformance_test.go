//go:build e2e

package e2e

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestConformance runs the official suite of the OCI distribution
// specification with every API and every kind of data turned on: against a
// registry as configured by default, which refuses manifests whose parts are
// missing, and against one with storage.allowSparse, which takes them.
func TestConformance(t *testing.T) {
	for _, topology := range []Topology{Linked, Split, SplitTLS, TwoGateways} {
		for _, sparse := range []bool{false, true} {
			name, atLeast := "strict", 960
			if sparse {
				name, atLeast = "sparse", 1000
			}
			t.Run(fmt.Sprintf("%s/%s", topology, name), func(t *testing.T) {
				s := Start(t, Options{Topology: topology, Edit: func(config map[string]any) {
					if sparse {
						config["storage"].(map[string]any)["allowSparse"] = true
					}
				}})
				got := runSuite(t, s, sparse)
				t.Logf("%s", got)
				if got.Tests < atLeast {
					t.Errorf("the suite made %d tests, want at least %d", got.Tests, atLeast)
				}
				if got.Failures != 0 || got.Errors != 0 || got.Skipped != 0 || got.Disabled != 0 {
					t.Error("not everything passed")
				}
			})
		}
	}
}

// TestConformanceOnPostgres runs the suite with the catalog on PostgreSQL.
func TestConformanceOnPostgres(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) {
			got := runSuite(t, Start(t, Options{Topology: topology, Postgres: server}), false)
			t.Logf("%s", got)
			if got.Tests < 960 || got.Failures != 0 || got.Errors != 0 || got.Skipped != 0 || got.Disabled != 0 {
				t.Error("not everything passed")
			}
		})
	}
}

// TestConformanceOnS3 runs the suite with bytes in a bucket: with the catalog on
// PostgreSQL, and in a file of a metadata service that has no bytes.
func TestConformanceOnS3(t *testing.T) {
	server := s3test.Start(t)
	for name, opt := range map[string]Options{
		"split":        {Topology: Split},
		"two-gateways": {Topology: TwoGateways},
		"linked":       {Topology: Linked},
	} {
		t.Run(name, func(t *testing.T) {
			opt.S3 = server
			if opt.Topology == Linked {
				opt.Postgres = pgtest.Start(t, pgtest.Options{Durable: true})
			}
			got := runSuite(t, Start(t, opt), false)
			t.Logf("%s", got)
			if got.Tests < 960 || got.Failures != 0 || got.Errors != 0 || got.Skipped != 0 || got.Disabled != 0 {
				t.Error("not everything passed")
			}
		})
	}
}

// TestConformanceOfReplicas runs the suite on two of each service over PostgreSQL
// and S3 with mutual TLS, the requests of each upload spread over all of them.
func TestConformanceOfReplicas(t *testing.T) {
	got := runSuite(t, Start(t, Options{Topology: Replicas}), false)
	t.Logf("%s", got)
	if got.Tests < 960 || got.Failures != 0 || got.Errors != 0 || got.Skipped != 0 || got.Disabled != 0 {
		t.Error("not everything passed")
	}
}

// TestConformanceCanFail proves that a registry with gaps does not pass:
// Debian's docker-registry is known to fail more than a hundred of the tests.
func TestConformanceCanFail(t *testing.T) {
	got := runSuite(t, Start(t, Options{Topology: Peer}), false)
	t.Logf("docker-registry: %s", got)
	if got.Tests < 960 || got.Failures < 100 || got.Skipped == 0 {
		t.Errorf("docker-registry has hundreds of gaps and the runner saw %s", got)
	}
}

// suiteResult is the head of the suite's JUnit report.
type suiteResult struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
}

func (r suiteResult) String() string {
	return fmt.Sprintf("%d tests, %d failures, %d errors, %d skipped, %d disabled",
		r.Tests, r.Failures, r.Errors, r.Skipped, r.Disabled)
}

// runSuite runs the suite against s and reads its report. The suite's own exit
// code says less than the report: it is 1 for a skip, and 0 for no test at all.
func runSuite(t *testing.T, s *System, sparse bool) suiteResult {
	t.Helper()
	results := filepath.Join(t.TempDir(), "results")
	cmd := exec.Command(Client(t, "conformance"))
	cmd.Dir = t.TempDir() // so that no oci-conformance.yaml is found
	cmd.Env = []string{
		"OCI_REGISTRY=" + s.Addr,
		"OCI_TLS=disabled",
		"OCI_VERSION=dev",
		fmt.Sprintf("OCI_DATA_SPARSE=%v", sparse),
		"OCI_RESULTS_DIR=" + results,
		"OCI_LOG=error",
	}
	for _, name := range []string{
		"API_PULL", "API_PUSH", "API_BLOBS_ATOMIC", "API_BLOBS_DELETE", "API_BLOBS_DIGEST_HEADER",
		"API_BLOBS_MOUNT_ANONYMOUS", "API_BLOBS_UPLOAD_CANCEL", "API_MANIFESTS_ATOMIC", "API_MANIFESTS_DELETE",
		"API_MANIFESTS_DIGEST_HEADER", "API_MANIFESTS_TAG_PARAM", "API_TAGS_ATOMIC", "API_TAGS_DELETE",
		"API_TAGS_LIST", "API_REFERRER", "DATA_IMAGE", "DATA_INDEX", "DATA_INDEX_LIST", "DATA_ARTIFACT",
		"DATA_SUBJECT", "DATA_SUBJECT_MISSING", "DATA_ARTIFACT_LIST", "DATA_SUBJECT_LIST", "DATA_DATA_FIELD",
		"DATA_NONDISTRIBUTABLE", "DATA_CUSTOM_FIELDS", "DATA_NO_LAYERS", "DATA_EMPTY_BLOB", "DATA_SHA512",
	} {
		cmd.Env = append(cmd.Env, "OCI_"+name+"=true")
	}
	output, runErr := cmd.CombinedOutput()

	report, err := os.ReadFile(filepath.Join(results, "junit.xml"))
	if err != nil {
		t.Fatalf("the suite left no report (%v, %v):\n%s", runErr, err, output)
	}
	var got suiteResult
	if err := xml.Unmarshal(report, &got); err != nil {
		t.Fatalf("reading the suite's report: %v", err)
	}
	if s.Topology != Peer && runErr != nil {
		t.Logf("what the suite says:\n%s", failures(string(output)))
	}
	return got
}

// failures cuts the suite's report down to the tests that did not pass and
// what was wrong with them.
func failures(output string) string {
	const most = 120
	var kept []string
	failing := false
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "Configuration:":
			return strings.Join(kept, "\n")
		case strings.HasSuffix(line, ": FAIL"), strings.HasSuffix(line, ": Skip"), strings.HasSuffix(line, ": Error"):
			failing = true
		case strings.HasSuffix(line, ": Pass"):
			failing = false
			continue
		case !failing:
			continue
		}
		if len(kept) == most {
			kept = append(kept, "…")
			break
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "\n")
}
