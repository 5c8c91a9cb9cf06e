package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/glob"
)

// Validate checks every value, whichever program it is for. [Load] has done so
// already.
func (c *Config) Validate() error { return c.check().err() }

// check makes all checks.
func (c *Config) check() *checker {
	ch := &checker{file: c.file}
	if !strings.HasPrefix(c.DistSpecVersion, "1.") {
		ch.warn("this registry serves version "+SpecVersion, "distSpecVersion")
	}
	ch.farBlobs = len(c.Services.Blobstore.Address) > 0
	ch.storage(&c.Storage)
	ch.http(&c.HTTP)
	ch.services(&c.Services)
	ch.outbound(&c.Outbound)
	ch.notNegative(c.Log.AuditRetention, place{"log", "auditRetention"})
	if c.Extensions != nil {
		ch.extensions(c.Extensions)
		ch.sync(c.Extensions.Sync)
		ch.readers(c.Extensions.Sync, c.HTTP.AccessControl)
	}
	return ch
}

// checker collects what is wrong, and finds the line of each key.
type checker struct {
	file     file
	warnings []Warning
	errs     []error
	farBlobs bool // the blobstore is another program, whose file says where the bytes are
}

// place is where a key stands: names as in the table, and list indexes.
type place []any

func (p place) with(more ...any) place { return append(p[:len(p):len(p)], more...) }

// find returns the key as written in messages and the line it stands on, or
// that of the innermost block there is.
func (ch *checker) find(at place) (string, int) {
	var p keyPath
	n, line := ch.file.root, 0
	for _, step := range at {
		switch step := step.(type) {
		case string:
			p = p.key(step)
			n = n.find(step)
		case int:
			p = p.index(step)
			if n != nil && n.kind == listNode && step < len(n.items) {
				n = n.items[step]
			} else if n != nil && n.kind != objectNode { // one object is a list of one
				n = nil
			}
		}
		if n != nil {
			line = n.line
		}
	}
	return p.String(), line
}

func (ch *checker) fail(at place, format string, args ...any) {
	key, line := ch.find(at)
	if len(ch.errs) < maxErrors {
		ch.errs = append(ch.errs, &Error{File: ch.file.name, Line: line, Key: key, Text: fmt.Sprintf(format, args...)})
	}
}

func (ch *checker) warn(text string, at ...any) {
	key, line := ch.find(at)
	ch.warnings = append(ch.warnings, Warning{Line: line, Key: key, Text: text})
}

// require fails unless ok.
func (ch *checker) require(ok bool, at place, format string, args ...any) {
	if !ok {
		ch.fail(at, format, args...)
	}
}

func (ch *checker) notNegative(d time.Duration, at place) {
	ch.require(d >= 0, at, "must not be negative")
}

// oneOf fails if a value and its …File twin are both given.
func (ch *checker) oneOf(value Secret, file string, at place, key string) {
	ch.require(value == "" || file == "", at.with(key+"File"), "give %s or %sFile, not both", key, key)
}

// maxRegex is how many bytes a regular expression may have.
const maxRegex = 4096

func (ch *checker) regex(expr string, at place) {
	if len(expr) > maxRegex {
		ch.fail(at, "a regular expression has at most %d bytes", maxRegex)
	} else if _, err := regexp.Compile(expr); err != nil {
		ch.fail(at, "not a regular expression: %v", err)
	}
}

func (ch *checker) url(text string, at place, schemes ...string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		ch.fail(at, "not a URL")
	case !slices.Contains(schemes, u.Scheme) || u.Host == "":
		ch.fail(at, "must be a URL that begins with %s://", strings.Join(schemes, ":// or "))
	}
}

// glob checks a pattern of names.
func (ch *checker) glob(pattern string, at place) {
	if _, err := glob.Compile(pattern); err != nil {
		ch.fail(at, "%q is not a glob: %v", pattern, err)
	}
}

// globs checks a list of patterns that must not be empty.
func (ch *checker) globs(patterns []string, at place) {
	ch.require(len(patterns) > 0, at, "needed: globs of repositories")
	for i, g := range patterns {
		ch.glob(g, at.with(i))
	}
}

// services requires all of services.tls, so that a part of it is not taken for
// the whole.
func (ch *checker) services(s *Services) {
	t := s.TLS
	if t == nil {
		return
	}
	at := place{"services", "tls"}
	ch.require(t.Cert != "", at.with("cert"), "needed: this program's own certificate")
	ch.require(t.Key != "", at.with("key"), "needed: the key of the certificate")
	ch.require(t.CACert != "", at.with("cacert"), "needed: who signs the certificates of the other programs")
	if s.Insecure {
		ch.warn("has no effect beside services.tls", "services", "insecure")
	}
	p := &t.Peers
	for name, list := range map[string][]string{
		"gateway": p.Gateway, "blobstore": p.Blobstore, "metadata": p.Metadata, "syncer": p.Syncer, "scanner": p.Scanner, "automation": p.Automation,
	} {
		for i, n := range list {
			at := at.with("peers", name, i)
			ch.require(n != "", at, "must not be empty")
			ch.require(n != "*" || name == "automation", at, "a certificate of any name must not make its owner a %s", name)
		}
	}
}

func (ch *checker) storage(s *Storage) {
	at := place{"storage"}
	ch.pool(&s.Pool, at)
	ch.notNegative(s.UndoWindow, at.with("undoWindow"))
	ch.require(s.Reserve >= 0, at.with("reserve"), "must not be negative")
	w := s.Watermarks
	ch.require(w.Low >= 0 && w.Low <= w.High && w.High <= 1, at.with("watermarks"), "low must be 0 to high, and high at most 1")
	ch.require(s.MaxRepos >= 0, at.with("maxRepos"), "must not be negative")
	roots := []root{{at.with("rootDirectory"), s.Pool}}
	for _, name := range sorted(s.SubPaths) {
		sub, at := s.SubPaths[name], at.with("subPaths", name)
		ch.require(len(name) > 1 && name[0] == '/', at, "must be a slash and the first path component of repository names")
		ch.require(sub.RootDirectory != "" || !sub.Local(), at.with("rootDirectory"), "needed")
		ch.require(!sub.GC || sub.GCDelay > 0, at.with("gcDelay"), "must be more than 0 when gc is on")
		if strings.Contains(strings.TrimSuffix(strings.TrimPrefix(name, "/"), "/"), "/") {
			ch.warn("only the first path component of a repository chooses its pool, so nothing goes here", at...)
		}
		ch.pool(&sub.Pool, at)
		roots = append(roots, root{at.with("rootDirectory"), sub.Pool})
	}
	ch.apart(roots)
	ch.require(s.Redirect.MinSize >= 0, at.with("redirect", "minSize"), "must not be negative")
	for key, list := range map[string][]string{"networks": s.Redirect.Networks, "exceptNetworks": s.Redirect.ExceptNetworks} {
		for i, n := range list {
			_, err := netip.ParsePrefix(n)
			ch.require(err == nil, at.with("redirect", key, i), "must be a network such as 10.0.0.0/8 or fd00::/8")
		}
	}
	m := &s.Metadata
	at = at.with("metadata")
	ch.oneOf(m.DSN, m.DSNFile, at, "dsn")
	ch.notNegative(m.MaxStaleness, at.with("maxStaleness"))
	hasDSN := m.DSN != "" || m.DSNFile != ""
	ch.require(hasDSN || m.Driver != Postgres, at.with("dsn"), "needed by driver postgres (or dsnFile)")
	ch.require(!hasDSN || m.Driver == Postgres, at.with("dsn"), "is for driver postgres only")
	ch.limits(s)
}

// limits checks what storage says about limits besides maxRepos.
func (ch *checker) limits(s *Storage) {
	at := place{"storage"}
	for i, q := range s.Quotas {
		at := at.with("quotas", i)
		ch.require(!slices.ContainsFunc(s.Quotas[:i], func(o Quota) bool { return slices.Equal(o.Repositories, q.Repositories) }),
			at.with("repositories"), "are those of another quota, with which it would share what is counted")
		ch.globs(q.Repositories, at.with("repositories"))
		ch.require(q.Bytes > 0, at.with("bytes"), "must be more than 0")
	}
	for i, m := range s.ImmutableTags {
		at := at.with("immutableTags", i)
		ch.globs(m.Repositories, at.with("repositories"))
		for j, g := range m.Tags {
			ch.glob(g, at.with("tags", j))
		}
	}
	for i, g := range s.ReadOnly {
		ch.glob(g, at.with("readOnly", i))
	}
}

func (ch *checker) pool(p *Pool, at place) {
	ch.notNegative(p.GCDelay, at.with("gcDelay"))
	ch.notNegative(p.GCInterval, at.with("gcInterval"))
	ch.require(p.Cache.Bytes >= 0, at.with("cache", "bytes"), "must not be negative")
	ch.require(p.Cache.Bytes == 0 || p.GC, at.with("cache", "bytes"), "needs gc: what is evicted is not removed without")
	if w := p.GCTimeWindow; w != "" {
		from, to, ok := timeWindow(w)
		ch.require(ok, at.with("gcTimeWindow"), "must be a daily time window such as 22:00-04:30, in UTC")
		ch.require(!ok || from != to, at.with("gcTimeWindow"), "begins when it ends")
	}
	if p.Retention != nil {
		ch.retention(p.Retention, at.with("retention"))
	}
	ch.driver(p.StorageDriver, at.with("storageDriver"))
	ch.require(!p.RedirectBlobURL || !p.Local() || ch.farBlobs, at.with("redirectBlobURL"), "needs a storageDriver: local files have no URL")
}

// timeWindow parses "HH:MM-HH:MM" into minutes of the day.
func timeWindow(s string) (from, to int, ok bool) {
	a, b, dash := strings.Cut(s, "-")
	from, ok1 := timeOfDay(strings.TrimSpace(a))
	to, ok2 := timeOfDay(strings.TrimSpace(b))
	return from, to, dash && ok1 && ok2
}

func timeOfDay(s string) (int, bool) {
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == len("15:04")
}

// root is the directory of a pool and the place of its key.
type root struct {
	at   place
	pool Pool
}

// apart fails for roots on the same driver that are equal or lie in each other.
func (ch *checker) apart(roots []root) {
	for i, a := range roots {
		for _, b := range roots[:i] {
			x, y := a.pool.place(), b.pool.place()
			if x == "" || y == "" {
				continue
			}
			other, _ := ch.find(b.at)
			switch {
			case x == y:
				ch.fail(a.at, "is the same directory as %s", other)
			case within(x, y):
				ch.fail(a.at, "lies in %s", other)
			case within(y, x):
				ch.fail(a.at, "contains %s", other)
			}
		}
	}
}

// within reports whether the clean path inner lies below outer.
func within(inner, outer string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (ch *checker) retention(r *Retention, at place) {
	if r.Delay != nil {
		ch.notNegative(*r.Delay, at.with("delay"))
	}
	for i, p := range r.Policies {
		at := at.with("policies", i)
		if len(p.Repositories) == 0 {
			ch.warn("names no repositories, so it applies to none", at...)
		}
		for j, g := range p.Repositories {
			ch.glob(g, at.with("repositories", j))
		}
		for j, k := range p.KeepTags {
			at := at.with("keepTags", j)
			for n, expr := range k.Patterns {
				ch.regex(expr, at.with("patterns", n))
			}
			ch.keep(&k.KeepRule, at)
		}
		if p.KeepUntagged != nil {
			ch.keep(p.KeepUntagged, at.with("keepUntagged"))
		}
	}
}

func (ch *checker) keep(k *KeepRule, at place) {
	for key, d := range map[string]*time.Duration{"pulledWithin": k.PulledWithin, "pushedWithin": k.PushedWithin} {
		if d != nil {
			ch.notNegative(*d, at.with(key))
		}
	}
	ch.require(k.MostRecentlyPulledCount >= 0, at.with("mostRecentlyPulledCount"), "must not be negative")
	ch.require(k.MostRecentlyPushedCount >= 0, at.with("mostRecentlyPushedCount"), "must not be negative")
}

func (ch *checker) port(port string, at place) {
	if n, err := strconv.Atoi(port); err == nil {
		ch.require(n >= 0 && n <= 65535, at, "must be between 0 and 65535")
		return
	}
	for _, c := range []byte(port) { // a service name of RFC 6335
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			ch.fail(at, "must be a port number or the name of a service")
			return
		}
	}
}
