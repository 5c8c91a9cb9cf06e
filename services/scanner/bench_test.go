//go:build bench

package scanner_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/contents"
)

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rss returns the most memory the process ever had, in MiB.
func rss(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	_, _ = fmt.Sscan(rest, &kib)
	return kib >> 10
}

// TestBenchImage reads a layer of 90 MB, as a base image with programs in it.
func TestBenchImage(t *testing.T) {
	var status strings.Builder
	for i := range 400 {
		fmt.Fprintf(&status, "Package: p%d\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.%d-1\nDescription: text\n more text\n\n", i, i)
	}
	all := []entry{file("etc/os-release", debianRelease), file("var/lib/dpkg/status", status.String())}
	noise := make([]byte, 20<<10)
	_, _ = rand.Read(noise)
	for i := range 3000 {
		_, _ = rand.Read(noise[:len(noise)/2])
		all = append(all, file(fmt.Sprintf("usr/lib/x/%d.so", i), string(noise)))
	}
	program := "\x7fELF" + strings.Repeat(string(noise), 60)
	for i := range 25 {
		all = append(all, entry{fmt.Sprintf("usr/bin/%d", i), program, 0o755, '0'})
	}
	b := layer(t, all...)
	before, began := cpu(t), time.Now()
	r := contents.Reader{Dir: t.TempDir()}
	l, err := r.Read(t.Context(), bytes.NewReader(b))
	if err != nil || len(l.Found) < 20 {
		t.Fatal(err)
	}
	t.Logf("a layer of %d MB, %d MB compressed: %v of CPU, %v of time; RSS %d MiB with the layer in memory", 90, len(b)>>20, cpu(t)-before, time.Since(began), rss(t))
}

// TestBenchRenew looks 1,000 images up in a newer database.
func TestBenchRenew(t *testing.T) {
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = true })
	image := &contents.Image{OS: contents.OS{Family: "debian", Version: "12"}}
	for i := range 400 {
		image.Packages = append(image.Packages, contents.Package{Name: fmt.Sprintf("p%d", i), Version: "1", Release: "1", SourceName: fmt.Sprintf("p%d", i), SourceVersion: "1", SourceRelease: "1"})
	}
	image.Packages[7].SourceName, image.Packages[7].SourceVersion = "openssl", "3.0.8"
	for i := range 1000 {
		scanner.PutImage(t, s.Service, registry.ScanStatus{Digest: registry.SHA256.FromString(fmt.Sprint(i)), State: registry.ScanDone}, image)
	}
	s.load(t, database(t))
	before, began := cpu(t), time.Now()
	scanner.Renew(t, s.Service)
	t.Logf("1,000 images of 400 packages: %v of time, %v of CPU", time.Since(began), cpu(t)-before)
	q, err := s.ScanQueue(t.Context())
	if err != nil || q.Stale != 0 || q.Done != 1000 {
		t.Errorf("%+v, %v", q, err)
	}
}
