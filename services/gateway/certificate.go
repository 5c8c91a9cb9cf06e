package gateway

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is the server's key pair, which follows its files: a renewed one
// serves the next connection that begins, with no restart. Files may be written
// in place, renamed over, or be symlinks that are swapped, as Kubernetes does.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards all below
	pair    *tls.Certificate
	from    [2]os.FileInfo // of the files that pair came from
	checked time.Time
	told    string // the last failure that was logged
}

// recheck is how long the files are believed not to have changed.
const recheck = time.Second

// loadCertificate reads a key pair. An error names the files.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// config returns a server's configuration with the certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.current}
}

// current returns the pair to use now. What can't be read, or does not fit
// together because only one file is written yet, leaves the pair that was good.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= recheck {
		c.checked = now
		c.follow()
	}
	return c.pair, nil
}

// follow loads the files if they changed.
func (c *certificate) follow() {
	now, err := c.stat()
	if err == nil && same(now[0], c.from[0]) && same(now[1], c.from[1]) {
		c.told = ""
		return
	}
	if err == nil {
		err = c.load()
	}
	switch {
	case err == nil:
		c.told = ""
		c.log.Info("using a new certificate", "file", c.certFile, "expires", c.pair.Leaf.NotAfter)
	case err.Error() != c.told:
		c.told = err.Error()
		c.log.Error("the new certificate can't be used; going on with the old one", "error", c.told)
	}
}

// load reads the files. What they were is noted before, so that a change in
// between is seen the next time.
func (c *certificate) load() error {
	from, err := c.stat()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("loading the certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	c.pair, c.from = &pair, from
	return nil
}

func (c *certificate) stat() (info [2]os.FileInfo, err error) {
	for i, f := range []string{c.certFile, c.keyFile} {
		if info[i], err = os.Stat(f); err != nil {
			return info, fmt.Errorf("looking at a file of the certificate: %w", err)
		}
	}
	return info, nil
}

// same reports whether a file was neither replaced nor written.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
