package registrytest

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// ScansBackend is an implementation of [registry.Scans] to test.
type ScansBackend struct {
	// New returns one that knows no image, and has no vulnerability database.
	New func(t *testing.T) Scanned
	// Cannot names tests of what it can't do.
	Cannot []string
}

// Scanned is a scanner, and a way to tell it what it found.
type Scanned struct {
	registry.Scans
	// Put records what became of an image, and what was found in it.
	Put func(status registry.ScanStatus, findings ...registry.ScanFinding)
}

// Scans tests an implementation of [registry.Scans].
func Scans(t *testing.T, b ScansBackend) {
	runAll(t, b.Cannot, []test[Scanned]{
		{"asking queues", scanAskingQueues},
		{"states and counts", scanStates},
		{"scanned again", scanAgain},
		{"findings", scanFindings},
		{"difference", scanDiff},
		{"affected images", scanAffected},
		{"bad questions", scanBadQuestions},
		{"no valid database", scanBadDB},
	}, b.New)
}

func scanDigest(text string) registry.Digest { return registry.SHA256.FromString(text) }

func scanFinding(id string, s registry.Severity, title string, packages ...registry.FindingPackage) registry.ScanFinding {
	return registry.ScanFinding{ID: id, Severity: s, Title: title, Description: "about " + id, Reference: "https://example.test/" + id, Packages: packages}
}

func scanPackage(name, layer string) registry.FindingPackage {
	return registry.FindingPackage{Name: name, Version: "1", Fixed: "2", Layer: scanDigest(layer)}
}

func scanAskingQueues(t *testing.T, s Scanned) {
	d := scanDigest("x")
	all, err := s.ScanStatuses(t.Context(), []registry.Digest{d})
	must(t, "ScanStatuses", err)
	if len(all) != 1 || all[0].State != "" || all[0].Digest != d {
		t.Errorf("of an unknown image: %+v", all)
	}
	st, err := s.ScanStatus(t.Context(), "r", d)
	must(t, "ScanStatus", err)
	if st.State == "" || st.State == registry.ScanDone {
		t.Errorf("after asking: %+v", st)
	}
	s.Put(registry.ScanStatus{Digest: d, State: registry.ScanDone, DB: "1"})
	must(t, "ScanNow", s.ScanNow(t.Context(), "r", d))
	if _, err := s.ScanQueue(t.Context()); err != nil {
		t.Error(err)
	}
}

func scanStates(t *testing.T, s Scanned) {
	want := []registry.ScanStatus{
		{Digest: scanDigest("a"), State: registry.ScanDone, DB: "7", At: 5, Packages: 3, OS: "debian 12", Counts: registry.SeverityCounts{0, 1, 0, 0, 2}},
		{Digest: scanDigest("b"), State: registry.ScanFailed, Reason: "limit: too much", At: 6},
		{Digest: scanDigest("c"), State: registry.ScanUnsupported, Reason: "a chart", At: 7},
	}
	s.Put(want[0], scanFinding("CVE-1", 4, ""), scanFinding("CVE-2", 1, ""), scanFinding("CVE-3", 4, ""))
	s.Put(want[1])
	s.Put(want[2])
	got, err := s.ScanStatuses(t.Context(), []registry.Digest{want[0].Digest, want[1].Digest, want[2].Digest})
	must(t, "ScanStatuses", err)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("statuses (-want +got):\n%s", d)
	}
	one, err := s.ScanStatus(t.Context(), "r", want[1].Digest)
	must(t, "ScanStatus", err)
	if d := cmp.Diff(want[1], one); d != "" {
		t.Errorf("a failed scan (-want +got):\n%s", d)
	}
}

// scanAgain: what is known of an image holds until its next scan has ended.
func scanAgain(t *testing.T, s Scanned) {
	d := scanDigest("a")
	s.Put(registry.ScanStatus{Digest: d, State: registry.ScanDone, DB: "7", At: 5}, scanFinding("CVE-1", 4, ""))
	must(t, "ScanNow", s.ScanNow(t.Context(), "r", d))
	one, err := s.ScanStatus(t.Context(), "r", d)
	must(t, "ScanStatus", err)
	all, err := s.ScanStatuses(t.Context(), []registry.Digest{d})
	must(t, "ScanStatuses", err)
	for _, st := range append(all, one) {
		if st.State != registry.ScanQueued || !st.Known() || st.DB != "7" || st.Counts.Max() != "CRITICAL" {
			t.Errorf("while it waits: %+v", st)
		}
	}
	page, err := s.Findings(t.Context(), d, registry.FindingQuery{})
	if err != nil || page.Total != 1 {
		t.Errorf("findings while it waits: %+v, %v", page, err)
	}
	of, err := s.AffectedOf(t.Context(), "CVE-1", []registry.Digest{d})
	if err != nil || len(of) != 1 || of[0] != registry.IsAffected {
		t.Errorf("affected while it waits: %v, %v", of, err)
	}
}

func scanFindings(t *testing.T, s Scanned) {
	d := scanDigest("a")
	openssl, bash := scanFinding("CVE-2024-1", 4, "Overflow in OpenSSL", scanPackage("libssl3", "1"), scanPackage("openssl", "1")), scanFinding("CVE-2023-9", 2, "bash", scanPackage("bash", "2"))
	old, unknown := scanFinding("CVE-2010-5", 4, "", scanPackage("zlib", "1")), scanFinding("GHSA-x", 0, "", registry.FindingPackage{Name: "lodash", Path: "app/package.json", Version: "4"})
	s.Put(registry.ScanStatus{Digest: d, State: registry.ScanDone, DB: "1"}, openssl, bash, old, unknown)
	counts := registry.SeverityCounts{1, 0, 1, 0, 2}
	for _, test := range []struct {
		name  string
		q     registry.FindingQuery
		total int64
		want  []registry.ScanFinding
	}{
		{"all", registry.FindingQuery{}, 4, []registry.ScanFinding{old, openssl, bash, unknown}},
		{"by ID", registry.FindingQuery{Sort: registry.ByID}, 4, []registry.ScanFinding{old, bash, openssl, unknown}},
		{"by ID, down", registry.FindingQuery{Sort: registry.ByIDDown, Limit: 2}, 4, []registry.ScanFinding{unknown, openssl}},
		{"a page", registry.FindingQuery{Offset: 1, Limit: 2}, 4, []registry.ScanFinding{openssl, bash}},
		{"behind the end", registry.FindingQuery{Offset: 9, Limit: 2}, 4, []registry.ScanFinding{}},
		{"by title, in any case", registry.FindingQuery{Search: "OVERFLOW"}, 1, []registry.ScanFinding{openssl}},
		{"by package", registry.FindingQuery{Search: "libssl"}, 1, []registry.ScanFinding{openssl}},
		{"excluded", registry.FindingQuery{Exclude: "cve-20"}, 1, []registry.ScanFinding{unknown}},
		{"by severity", registry.FindingQuery{Severity: "CRITICAL"}, 2, []registry.ScanFinding{old, openssl}},
	} {
		got, err := s.Findings(t.Context(), d, test.q)
		if diff := cmp.Diff(registry.FindingPage{Items: test.want, Total: test.total, Counts: counts}, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", test.name, err, diff)
		}
	}
	got, err := s.Findings(t.Context(), scanDigest("other"), registry.FindingQuery{})
	if err != nil || len(got.Items) != 0 || got.Total != 0 {
		t.Errorf("of an image that was not scanned: %+v, %v", got, err)
	}
}

func scanDiff(t *testing.T, s Scanned) {
	a, b, c := scanDigest("a"), scanDigest("b"), scanDigest("c")
	one, two, three := scanFinding("CVE-1", 1, "", scanPackage("x", "1")), scanFinding("CVE-2", 2, "", scanPackage("y", "1")), scanFinding("CVE-3", 3, "", scanPackage("z", "1"))
	elsewhere := scanFinding("CVE-3", 3, "", scanPackage("z", "2"))
	s.Put(registry.ScanStatus{Digest: a, State: registry.ScanDone}, one, two, three)
	s.Put(registry.ScanStatus{Digest: b, State: registry.ScanDone}, one)
	s.Put(registry.ScanStatus{Digest: c, State: registry.ScanDone}, elsewhere)
	got, err := s.FindingsDiff(t.Context(), []registry.Digest{a, c}, []registry.Digest{b}, registry.FindingQuery{})
	must(t, "FindingsDiff", err)
	both := scanFinding("CVE-3", 3, "", scanPackage("z", "1"), scanPackage("z", "2"))
	if d := cmp.Diff(registry.FindingPage{Items: []registry.ScanFinding{both, two}, Total: 2, Counts: registry.SeverityCounts{0, 0, 1, 1}}, got); d != "" {
		t.Errorf("difference (-want +got):\n%s", d)
	}
}

func scanAffected(t *testing.T, s Scanned) {
	var all []registry.Digest
	for _, x := range []string{"a", "b", "c", "d", "e"} {
		d := scanDigest(x)
		all = append(all, d)
		switch x {
		case "d":
			s.Put(registry.ScanStatus{Digest: d, State: registry.ScanDone}, scanFinding("CVE-2", 1, ""))
		case "e":
			s.Put(registry.ScanStatus{Digest: d, State: registry.ScanFailed, Reason: "x"})
		default:
			s.Put(registry.ScanStatus{Digest: d, State: registry.ScanDone}, scanFinding("CVE-1", 1, ""), scanFinding("CVE-2", 1, ""))
		}
	}
	var got []registry.Digest
	page := registry.Page[registry.Digest]{Limit: 2}
	for {
		list, err := s.AffectedImages(t.Context(), "CVE-1", page)
		must(t, "AffectedImages", err)
		got = append(got, list.Items...)
		if !list.More {
			break
		}
		page.After = list.Items[len(list.Items)-1]
	}
	if len(got) != 3 || got[0] >= got[1] || got[1] >= got[2] {
		t.Errorf("affected: %v", got)
	}
	of, err := s.AffectedOf(t.Context(), "CVE-1", append(all, scanDigest("f")))
	must(t, "AffectedOf", err)
	const yes, no, unknown = registry.IsAffected, registry.NotAffected, registry.NotScanned
	if d := cmp.Diff([]registry.Affection{yes, yes, yes, no, unknown, unknown}, of); d != "" {
		t.Errorf("affected of those (-want +got):\n%s", d)
	}
}

func scanBadQuestions(t *testing.T, s Scanned) {
	d := scanDigest("a")
	for _, q := range []registry.FindingQuery{{Limit: -1}, {Offset: -1}, {Limit: 4097}, {Sort: "colour"}, {Severity: "AWFUL"}} {
		_, err := s.Findings(t.Context(), d, q)
		wantErr(t, "Findings", err, registry.ErrParameterInvalid)
	}
	many := make([]registry.Digest, registry.MaxScanned+1)
	for i := range many {
		many[i] = d
	}
	_, err := s.ScanStatuses(t.Context(), many)
	wantErr(t, "ScanStatuses of too many", err, registry.ErrParameterInvalid)
	_, err = s.AffectedOf(t.Context(), "CVE-1", many)
	wantErr(t, "AffectedOf too many", err, registry.ErrParameterInvalid)
	_, err = s.SBOM(t.Context(), "r", d, "xml")
	wantErr(t, "SBOM in no format", err, registry.ErrParameterInvalid)
}

var errBroken = errors.New("the disk is broken")

func scanBadDB(t *testing.T, s Scanned) {
	_, err := s.ImportDB(t.Context(), strings.NewReader(strings.Repeat("no database ", 100_000)))
	wantErr(t, "ImportDB of nonsense", err, registry.ErrParameterInvalid)
	_, err = s.ImportDB(t.Context(), io.MultiReader(strings.NewReader("some"), failing{}))
	if err == nil {
		t.Error("a database that could not be read was taken")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }
