package config

import (
	"errors"
	"net"
	"net/netip"
	"strings"
)

// Program names a program that reads the file. Each reads its own sections only.
type Program int

// The programs. AllInOne runs the gateway and whatever has no address.
const (
	AllInOne Program = iota
	OnlyGateway
	OnlyBlobstore
	OnlyMetadata
	OnlySyncer
	OnlyScanner
)

// ValidateFor checks that the file tells program what it has to know. It
// assumes that [Config.Validate] holds.
func (c *Config) ValidateFor(program Program) error {
	ch := &checker{file: c.file}
	s := &c.Services
	ch.addresses(&s.Blobstore, "blobstore")
	ch.addresses(&s.Metadata, "metadata")
	ch.addresses(&s.Syncer, "syncer")
	ch.private(s, &s.Syncer, "syncer")
	ch.addresses(&s.Scanner, "scanner")
	ch.require(len(s.Scanner.Address) < 2, place{"services", "scanner", "address"}, "there can be one scanner: it has the vulnerability database and the queue")
	ch.private(s, &s.Scanner, "scanner")
	ch.single(c)
	switch program {
	case AllInOne:
		ch.rootFor(c, len(s.Blobstore.Address) == 0, len(s.Metadata.Address) == 0)
		ch.private(s, &s.Blobstore, "blobstore")
		ch.private(s, &s.Metadata, "metadata")
		ch.remoteBytes(c, len(s.Blobstore.Address) == 0, len(s.Metadata.Address) == 0)
		ch.mayListen(s, &s.Blobstore, "blobstore")
		ch.mayListen(s, &s.Metadata, "metadata")
		ch.mayListen(s, &s.Syncer, "syncer")
		ch.mayListen(s, &s.Scanner, "scanner")
	case OnlyGateway:
		ch.dials(s)
	case OnlyBlobstore:
		ch.rootFor(c, true, false)
		ch.listens(s, &s.Blobstore, "blobstore")
	case OnlyMetadata:
		ch.rootFor(c, false, true)
		ch.private(s, &s.Blobstore, "blobstore")
		ch.listens(s, &s.Metadata, "metadata")
	case OnlySyncer:
		ch.dials(s)
		ch.listens(s, &s.Syncer, "syncer")
	case OnlyScanner:
		ch.dials(s)
		ch.listens(s, &s.Scanner, "scanner")
	}
	return ch.err()
}

// rootFor requires a root directory for what a program links.
func (ch *checker) rootFor(c *Config, blobs, catalog bool) {
	if blobs && c.Storage.Local() || catalog && c.Storage.Metadata.Driver == SQLite {
		ch.require(c.Storage.RootDirectory != "", place{"storage", "rootDirectory"}, "needed: it says where everything is stored")
	}
}

// remoteBytes refuses a program that keeps bytes in an object store and their
// names in a file beside itself: the first outlives this machine, the second
// does not.
func (ch *checker) remoteBytes(c *Config, blobs, catalog bool) {
	if !blobs || !catalog || c.Storage.Metadata.Driver != SQLite {
		return
	}
	pools := map[string]Pool{"": c.Storage.Pool}
	for name, sub := range c.Storage.SubPaths {
		pools[name] = sub.Pool
	}
	for _, name := range sorted(pools) {
		at := place{"storage", "storageDriver"}
		if name != "" {
			at = place{"storage", "subPaths", name, "storageDriver"}
		}
		ch.require(pools[name].Local(), at, "bytes in an object store need a catalog that outlives this machine, which a SQLite file does not: "+
			"set storage.metadata to a PostgreSQL database, or services.metadata.address to a metadata service that you back up")
	}
}

// dials requires the addresses of the two services that every other one needs.
func (ch *checker) dials(s *Services) {
	const why = "needed: this program does not run the service itself"
	ch.require(len(s.Blobstore.Address) > 0, place{"services", "blobstore", "address"}, why)
	ch.require(len(s.Metadata.Address) > 0, place{"services", "metadata", "address"}, why)
	ch.private(s, &s.Blobstore, "blobstore")
	ch.private(s, &s.Metadata, "metadata")
}

// private refuses to dial other machines in plaintext, unless the file says that
// it may be.
func (ch *checker) private(all *Services, s *Service, name string) {
	if all.Insecure || all.TLS != nil {
		return
	}
	for _, a := range s.Address {
		ch.require(local(a), place{"services", name, "address"},
			"%s is on another machine, and there is no services.tls: set it, or set services.insecure to true on a network you trust", a)
	}
}

// local reports whether a gRPC target leads to this machine for certain.
func local(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	_, plain, scheme := strings.Cut(target, ":///")
	if !scheme {
		plain = strings.TrimPrefix(strings.TrimPrefix(target, "ipv4:"), "ipv6:")
	}
	for a := range strings.SplitSeq(plain, ",") {
		if host, _, err := net.SplitHostPort(a); err != nil || !loopback(host) {
			return false
		}
	}
	return true
}

// single refuses several replicas of what there can be only one of, as far as
// the file tells: a process has its directory, and its SQLite, for itself.
func (ch *checker) single(c *Config) {
	if c.Storage.RootDirectory == "" {
		return // of a gateway, say: it is not told where the bytes are
	}
	s := &c.Services
	onDisk := c.Storage.Local()
	for _, sub := range c.Storage.SubPaths {
		onDisk = onDisk || sub.Local()
	}
	ch.require(len(s.Blobstore.Address) < 2 || !onDisk, place{"services", "blobstore", "address"},
		"several blobstores need storage.storageDriver: one process has a directory, and the uploads in it, for itself")
	ch.require(len(s.Metadata.Address) < 2 || c.Storage.Metadata.Driver != SQLite, place{"services", "metadata", "address"},
		"several metadata services need storage.metadata.driver postgres: one process has a SQLite database for itself")
	ch.require(len(s.Syncer.Address) < 2 || c.Storage.Metadata.Driver != SQLite, place{"services", "syncer", "address"},
		"several syncers need storage.metadata.driver postgres: in its database they agree who fetches what")
}

// addresses refuses those that lack a port: gRPC would take 443.
func (ch *checker) addresses(s *Service, name string) {
	for _, a := range s.Address {
		_, _, err := net.SplitHostPort(a)
		var malformed *net.AddrError
		ch.require(!errors.As(err, &malformed) || malformed.Err != "missing port in address",
			place{"services", name, "address"}, "must be host:port or a gRPC target: %s lacks the port", a)
	}
}

// listens requires an address to listen on which nobody else can reach, unless
// the file says that it may be without TLS.
func (ch *checker) listens(all *Services, s *Service, name string) {
	at := place{"services", name, "listen"}
	host, port, err := net.SplitHostPort(s.Listen)
	switch {
	case s.Listen == "":
		ch.fail(at, "needed")
		return
	case err != nil:
		ch.fail(at, "must be host:port")
		return
	}
	ch.port(port, at)
	ch.plain(all, host, at)
	if s.Metrics == "" {
		return
	}
	at = place{"services", name, "metrics"}
	if host, port, err = net.SplitHostPort(s.Metrics); err != nil {
		ch.fail(at, "must be host:port")
		return
	}
	ch.port(port, at)
	ch.plain(all, host, at)
}

// plain refuses an address that other machines reach without TLS, unless the file
// says that it may be.
func (ch *checker) plain(all *Services, host string, at place) {
	if !all.Insecure && !loopback(host) && all.TLS == nil {
		ch.fail(at, "other machines can reach this address without TLS: set services.tls, listen on a loopback address, or set services.insecure to true on a network you trust")
	}
}

// mayListen is listens for a program that serves what it links only if the file
// says where.
func (ch *checker) mayListen(all *Services, s *Service, name string) {
	if s.Listen != "" && len(s.Address) == 0 {
		ch.listens(all, s, name)
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (ch *checker) err() error { return errors.Join(ch.errs...) }
