package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

func keyPair(t *testing.T, subject string) (cert, key []byte) {
	t.Helper()
	return certstest.NewAuthority(t, "test").Issue(t, certstest.Request{Subject: subject})
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	certstest.Write(t, file, b)
}

// logBuffer is what a logger has written.
type logBuffer struct{ bytes.Buffer }

func (b *logBuffer) take() string {
	defer b.Reset()
	return b.String()
}

// TestCertificateFollowsItsFiles renews a pair in the ways there are.
func TestCertificateFollowsItsFiles(t *testing.T) {
	oneCert, oneKey := keyPair(t, "one")
	twoCert, twoKey := keyPair(t, "two")
	overwrite := func(dir string) {
		write(t, filepath.Join(dir, "cert"), twoCert)
		write(t, filepath.Join(dir, "key"), twoKey)
	}
	for name, test := range map[string]struct {
		change func(dir string)
		want   string // the subject served then
		logged string
	}{
		"nothing":    {func(string) {}, "one", ""},
		"in place":   {overwrite, "two", `"using a new certificate"`},
		"only cert":  {func(dir string) { write(t, filepath.Join(dir, "cert"), twoCert) }, "one", "private key does not match"},
		"only key":   {func(dir string) { write(t, filepath.Join(dir, "key"), twoKey) }, "one", "private key does not match"},
		"not PEM":    {func(dir string) { write(t, filepath.Join(dir, "cert"), []byte("x")) }, "one", "failed to find any PEM data"},
		"empty file": {func(dir string) { write(t, filepath.Join(dir, "key"), nil) }, "one", "key"},
		"removed":    {func(dir string) { os.Remove(filepath.Join(dir, "cert")) }, "one", "no such file"},
		"renamed over": {func(dir string) {
			write(t, filepath.Join(dir, "cert.new"), twoCert)
			write(t, filepath.Join(dir, "key.new"), twoKey)
			os.Rename(filepath.Join(dir, "cert.new"), filepath.Join(dir, "cert"))
			os.Rename(filepath.Join(dir, "key.new"), filepath.Join(dir, "key"))
		}, "two", `"using a new certificate"`},
		"broken, then good": {func(dir string) {
			write(t, filepath.Join(dir, "cert"), []byte("x"))
		}, "one", "failed to find any PEM data"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				write(t, filepath.Join(dir, "cert"), oneCert)
				write(t, filepath.Join(dir, "key"), oneKey)
				var out logBuffer
				c, err := LoadPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"), slog.New(slog.NewTextHandler(&out, nil)))
				if err != nil {
					t.Fatal(err)
				}
				subject := func() string { return c.Current().Leaf.Subject.CommonName }
				test.change(dir)
				if got := subject(); got != "one" {
					t.Errorf("within a second: %s", got)
				}
				for range 3 {
					time.Sleep(recheck) // fake: this is a bubble
					if got := subject(); got != test.want {
						t.Errorf("got %s, want %s", got, test.want)
					}
				}
				text := out.take()
				if !strings.Contains(text, test.logged) || strings.Count(text, "\n") > 1 || test.logged == "" && text != "" {
					t.Errorf("logged %q", text)
				}
				overwrite(dir) // whatever was wrong is right then
				time.Sleep(recheck)
				if got := subject(); got != "two" {
					t.Errorf("at last: %s", got)
				}
			})
		})
	}
}

// TestCertificateBehindSymlinks swaps a directory as Kubernetes does: cert is a
// link to ..data/cert, and ..data one to a directory.
func TestCertificateBehindSymlinks(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"one", "two"} {
		cert, key := keyPair(t, version)
		os.Mkdir(filepath.Join(dir, version), 0o700)
		write(t, filepath.Join(dir, version, "cert"), cert)
		write(t, filepath.Join(dir, version, "key"), key)
	}
	swap := func(version string) {
		t.Helper()
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("one")
	for _, f := range []string{"cert", "key"} {
		if err := os.Symlink("..data/"+f, filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := LoadPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		swap("two")
		time.Sleep(recheck) // fake: this is a bubble
		if got := c.Current().Leaf.Subject.CommonName; got != "two" {
			t.Errorf("serves %s", got)
		}
	})
}

// TestExpiryIsLoggedAhead lets certificates of several lives grow old.
func TestExpiryIsLoggedAhead(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		life  time.Duration
		soon  time.Duration // when it is first mentioned
		times int           // how often before the end, if asked every hour
	}{
		{life: 90 * day, soon: 76 * day, times: 28},
		{life: 3650 * day, soon: 3636 * day, times: 28},
		{life: day, soon: 18 * time.Hour, times: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			var out logBuffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			start := time.Now()
			f := certstest.NewAuthority(t, "test").Save(t, dir, certstest.Request{Since: start, Until: start.Add(test.life)})
			p, err := LoadPair(f.Cert, f.Key, log)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(test.soon - time.Hour)
			p.Current()
			if text := out.take(); text != "" {
				t.Errorf("a life of %v: logged too early: %s", test.life, text)
			}
			for time.Since(start) < test.life-time.Hour {
				time.Sleep(time.Hour)
				p.Current()
			}
			text := out.take()
			if n := strings.Count(text, `level=WARN msg="certificate expires soon"`); n != test.times || !strings.Contains(text, f.Cert) {
				t.Errorf("a life of %v: mentioned %d times, want %d:\n%s", test.life, n, test.times, text)
			}
			time.Sleep(3 * time.Hour)
			p.Current()
			if text := out.take(); !strings.Contains(text, `level=ERROR msg="certificate has expired"`) {
				t.Errorf("a life of %v: logged %q at the end", test.life, text)
			}
		})
	}
}

func TestAuthorities(t *testing.T) { synctest.Test(t, testAuthorities) }

func testAuthorities(t *testing.T) {
	one, two := certstest.NewAuthority(t, "one"), certstest.NewAuthority(t, "two")
	signs := func(a *Authorities, by *certstest.Authority) bool {
		der, _ := by.Issue(t, certstest.Request{Names: []string{"x"}})
		block, _ := pem.Decode(der)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Verify(x509.VerifyOptions{Roots: a.Current()})
		return err == nil
	}
	file := filepath.Join(t.TempDir(), "ca")
	for _, bad := range []string{"", "x", string(one.Cert[:len(one.Cert)/2]), "-----BEGIN CERTIFICATE-----\neHh4\n-----END CERTIFICATE-----\n"} {
		write(t, file, []byte(bad))
		if _, err := LoadAuthorities(file, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	write(t, file, one.Cert)
	a, err := LoadAuthorities(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text     []byte
		one, two bool
	}{
		{one.Cert, true, false},
		{append(append([]byte("both\n"), one.Cert...), two.Cert...), true, true},
		{[]byte("broken"), true, true},
		{two.Cert, false, true},
	} {
		write(t, file, step.text)
		time.Sleep(recheck) // fake: this is a bubble
		if signs(a, one) != step.one || signs(a, two) != step.two {
			t.Errorf("after %.20q: trusts one: %v, two: %v", step.text, signs(a, one), signs(a, two))
		}
	}
}
