//go:build bench

package scanner_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"runtime/debug"
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

// rss returns the memory that the process has, VmRSS, or the most it had, VmHWM, in MiB.
func rss(t *testing.T, which string) float64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var kib float64
	_, rest, ok := strings.Cut(string(b), which+":")
	if _, err := fmt.Sscan(rest, &kib); err != nil || !ok {
		t.Fatal(which, err)
	}
	return kib / 1024
}

// debianLike makes the layers of an image of 90 MB: 400 packages of Debian with their lists of
// files, libraries, programs, of which one was built by Go, a lock file, packages of Node.js, and
// a second layer that removes some of it.
func debianLike(t *testing.T) (size int, layers [][]byte) {
	t.Helper()
	var status, lock strings.Builder
	all := []entry{file("etc/os-release", debianRelease)}
	for i := range 400 {
		fmt.Fprintf(&status, "Package: p%d\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl (3.0.8-1)\nVersion: 1.%d-1\nDescription: text\n more text\n\n", i, i)
		var list strings.Builder
		for j := range 60 {
			fmt.Fprintf(&list, "0123456789abcdef0123456789abcdef  usr/share/p%d/%d\n", i, j)
		}
		all = append(all, file(fmt.Sprintf("var/lib/dpkg/info/p%d.md5sums", i), list.String()))
	}
	lock.WriteString(`{"lockfileVersion":3,"packages":{"":{}`)
	for i := range 500 {
		fmt.Fprintf(&lock, `,"node_modules/n%d":{"version":"1.%d.0","resolved":"https://example.com/n","integrity":"sha512-0123","license":"MIT"}`, i, i)
		all = append(all, file(fmt.Sprintf("srv/node_modules/n%d/package.json", i), fmt.Sprintf(`{"name":"n%d","version":"1.%d.0","license":"MIT","main":"index.js"}`, i, i)))
	}
	lock.WriteString("}}")
	program := readFile(t, os.Args[0]) // one that Go has built
	all = append(all, file("var/lib/dpkg/status", status.String()), file("srv/package-lock.json", lock.String()), entry{"usr/bin/go-program", program, 0o755, '0'})
	for _, e := range all {
		size += len(e.text)
	}
	noise := make([]byte, 20<<10)
	_, _ = rand.Read(noise)
	for i := 0; size < 90e6; i++ {
		_, _ = rand.Read(noise[:len(noise)/2])
		e := file(fmt.Sprintf("usr/lib/x/%d.so", i), string(noise))
		if i%100 == 0 {
			e = entry{fmt.Sprintf("usr/bin/%d", i), "\x7fELF" + strings.Repeat(string(noise), 20), 0o755, '0'}
		}
		all, size = append(all, e), size+len(e.text)
	}
	return size, [][]byte{layer(t, all...), layer(t, file("srv/node_modules/.wh.n7", ""), file("etc/motd", "hello\n"))}
}

// TestBenchImage scans an image of 90 MB: what it costs of CPU, and how much memory comes to
// what the process had.
func TestBenchImage(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	s.load(t, database(t))
	small := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	s.wait(t, "r", small.Digest) // what is made once, is there
	size, layers := debianLike(t)
	image := s.image(t, "r", "", layers...)
	compressed := len(layers[0])
	clear(layers)
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // VmHWM begins again
		t.Fatal(err)
	}
	had, before := rss(t, "VmRSS"), cpu(t)
	st := s.wait(t, "r", image.Digest)
	if st.State != registry.ScanDone || st.Packages < 1300 {
		t.Fatalf("%+v", st)
	}
	t.Logf("an image of %d MB, %d MB compressed, %d packages: %v of CPU, RSS grew from %.1f by %.1f MiB", size/1e6, compressed/1e6, st.Packages, cpu(t)-before, had, rss(t, "VmHWM")-had)
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
