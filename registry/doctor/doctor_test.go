package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// run returns the findings of checks.
func run(t *testing.T, checks ...Check) []Finding {
	t.Helper()
	var out bytes.Buffer
	r := NewReport(&out, true)
	Run(t.Context(), r, checks...)
	var all []Finding
	failed := 0
	for line := range strings.Lines(out.String()) {
		var f Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Level == Fail {
			failed++
		}
		all = append(all, f)
	}
	if n, err := r.Failed(); n != failed || err != nil {
		t.Errorf("%d failures counted, %d printed, %v", n, failed, err)
	}
	return all
}

// wants compares findings with "level text", a part of each.
func wants(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d findings, want %d: %+v", len(got), len(want), got)
		return
	}
	for i, f := range got {
		level, text, _ := strings.Cut(want[i], " ")
		if string(f.Level) != level || !strings.Contains(f.Text+"; "+f.Advice, text) {
			t.Errorf("got %+v, want %s", f, want[i])
		}
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := NewReport(&out, false)
	r.OK("a", "all %s", "well")
	r.Warn("b", "mend it", "bad")
	r.Fail("c", "", "worse")
	if diff := cmp.Diff("ok    a: all well\nwarn  b: bad; mend it\nfail  c: worse\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCertificate(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ca"), certstest.NewAuthority(t, "other")
	long := certstest.Request{Names: []string{"hub.example", "spiffe://x/gateway"}, Until: time.Now().Add(90 * 24 * time.Hour)}
	good := ca.Save(t, t.TempDir(), long)
	check := func(f certstest.Files, authorities, host string) []Finding {
		return run(t, Certificate("x.tls", f.Cert, f.Key, authorities, host))
	}
	wants(t, check(good, good.CA, "hub.example"), "ok for hub.example, spiffe://x/gateway")
	wants(t, check(good, "", ""), "ok valid until", "warn would not trust it")
	wants(t, check(good, good.CA, "elsewhere.example"), "ok valid", "fail elsewhere.example")
	wants(t, check(good, good.Key, ""), "ok valid", "fail no authority in")
	wants(t, check(certstest.Files{Cert: good.Cert, Key: good.CA}, good.CA, ""), "fail give files in PEM form")

	foreign := filepath.Join(t.TempDir(), "ca.pem")
	certstest.Write(t, foreign, other.Cert)
	wants(t, check(good, foreign, ""), "ok valid", "fail not good for", "fail not good for")

	old := ca.Save(t, t.TempDir(), certstest.Request{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(-time.Second)})
	wants(t, check(old, old.CA, "")[:1], "fail expired on")
	wants(t, check(ca.Save(t, t.TempDir(), certstest.Request{}), good.CA, ""), "warn expires on")
	early := ca.Save(t, t.TempDir(), certstest.Request{Since: time.Now().Add(time.Hour), Until: time.Now().Add(2 * time.Hour)})
	wants(t, check(early, good.CA, ""), "fail is not valid before")

	if err := os.Chmod(good.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	wants(t, check(good, good.CA, ""), "ok valid", "warn chmod o= ")
}

func TestStorage(t *testing.T) {
	check := func(root string) []Finding { return run(t, Storage("storage.rootDirectory", root)) }
	dir := t.TempDir()
	if got := check(dir); got[0].Level != OK || !strings.Contains(got[0].Text, "can be written, and synced") {
		t.Errorf("got %+v", got)
	}
	if got := check(filepath.Join(dir, "a", "b")); got[0].Level != OK || !strings.Contains(got[0].Text, "will be made") {
		t.Errorf("got %+v", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("something stays behind: %v, %v", entries, err)
	}
	file := filepath.Join(dir, "file")
	certstest.Write(t, file, nil)
	wants(t, check(file), "fail can't be used")
	wants(t, check(filepath.Join(file, "x")), "fail can't be used")
	wants(t, check("/proc/berth"), "fail can't be made in /proc")
	wants(t, check("/proc")[:1], "fail writing and syncing a file")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	wants(t, check(dir)[:2], "ok can be written", "warn chmod o-w")
	if got := check("/dev/shm"); len(got) > 0 && !strings.Contains(got[len(got)-2].Text, "tmpfs") {
		t.Errorf("a tmpfs goes unnoticed: %+v", got)
	}
}

func TestMachine(t *testing.T) {
	broken := errors.New("broken")
	files := func(n uint64, err error) []Finding {
		return run(t, Files(func() (uint64, error) { return n, err }))
	}
	wants(t, files(65536, nil), "ok 65536")
	wants(t, files(1024, nil), "warn LimitNOFILE")
	wants(t, files(0, broken), "warn broken")
	clock := func(ok bool, err error) []Finding {
		return run(t, Clock(func() (bool, error) { return ok, err }))
	}
	wants(t, clock(true, nil), "ok synchronized")
	wants(t, clock(false, nil), "warn chrony")
	wants(t, clock(false, broken), "warn broken")
}

func TestSkew(t *testing.T) {
	for off, level := range map[time.Duration]string{
		0: "ok", 4 * time.Second: "ok", -10 * time.Second: "warn", 10 * time.Second: "warn", time.Hour: "fail", -time.Hour: "fail",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusForbidden)
		}))
		wants(t, run(t, func(ctx context.Context, r *Report) { HTTPSkew(ctx, r, "s3", s.URL, s.Client()) }), level+" its clock")
		s.Close()
	}
	// Who is not there is somebody else's finding.
	wants(t, run(t, func(ctx context.Context, r *Report) {
		HTTPSkew(ctx, r, "s3", "http://127.0.0.1:1", http.DefaultClient)
	}))
}
