package validate

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	systemdAnalyze = "/usr/bin/systemd-analyze"
	// mostExposed is what `systemd-analyze security` may give the unit, of 10. A
	// service that does nothing about it has 9.6.
	mostExposed = 1.5
)

func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile("../systemd/berth.service")
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return string(m[1])
	}
	drain, ok := strings.CutPrefix(value("ExecStart"), "/usr/local/bin/berth serve --drain ")
	drain, _, ok2 := strings.Cut(drain, "s ")
	seconds, err := strconv.Atoi(drain)
	stop, err2 := strconv.Atoi(value("TimeoutStopSec"))
	if !ok || !ok2 || err != nil || err2 != nil || stop <= seconds {
		t.Errorf("killed after %d s, stops within %d", stop, seconds)
	}

	if _, err := os.Stat(systemdAnalyze); err != nil {
		t.Skip("NOT RUN: no systemd-analyze: ", err)
	}
	// The program has to be there.
	program, err := filepath.Abs(bin("berth"))
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "berth.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/berth", program)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, systemdAnalyze, "verify", "--man=no", unit); err != nil || strings.Contains(out, "berth.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := run(t, systemdAnalyze, "security", "--offline=yes", "--threshold="+strconv.Itoa(mostExposed*10), unit)
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
