package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
)

// counted is a catalog whose round trips are counted.
type counted struct {
	*metadata.Catalog
	proxy *pgtest.Proxy
}

func openCounted(t *testing.T, o metadata.Options) counted {
	t.Helper()
	o.Follow = time.Hour // its queries would be counted
	server := pgtest.Shared(t)
	proxy := pgtest.NewProxy(t, server.Port)
	return counted{openCatalog(t, pgtest.DSN(proxy.Port, server.Database(t)), o), proxy}
}

// trips returns how many round trips f takes once the connection knows the
// statements: the first call has others.
func (c counted) trips(t *testing.T, what string, want int, f func(n int) error) {
	t.Helper()
	for n := range 3 {
		c.proxy.Took()
		if err := f(n); err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		got := c.proxy.Took()
		if n == 2 && len(got) > want {
			t.Errorf("%s takes %d round trips, want at most %d:", what, len(got), want)
			for _, f := range got {
				t.Logf("%q", f.Texts)
			}
		}
	}
}

// What operations cost: a push of an image is a HEAD and a Link for each blob,
// and a HEAD and a PutManifest.
func TestRoundTrips(t *testing.T) {
	c := openCounted(t, metadata.Options{})
	ctx := t.Context()
	config, other := blob("config"), blob("other")
	link(t, c, "a", config)
	link(t, c, "a", other)
	put(t, c, "a", manifest(config, "x", "latest"))
	missing := func(err error, want error) error {
		if registry.AsError(err).Is(want) {
			return nil
		}
		return fmt.Errorf("got error %w, want %w", err, want)
	}
	c.trips(t, "HEAD of a new blob", 1, func(n int) error {
		_, err := c.Blob(ctx, alice, "a", blob(fmt.Sprint("new ", n)).Digest)
		return missing(err, registry.ErrBlobUnknown)
	})
	c.trips(t, "Link of a new blob", 1, func(n int) error {
		_, err := c.Link(ctx, alice, "a", blob(fmt.Sprint("new ", n)))
		return err
	})
	c.trips(t, "Link of a blob that is there", 1, func(n int) error {
		_, err := c.Link(ctx, alice, "a", blob("config"))
		return err
	})
	c.trips(t, "Link into a new repository", 1, func(n int) error {
		_, err := c.Link(ctx, alice, registry.Name(fmt.Sprint("repo", n)), blob(fmt.Sprint("new ", n)))
		return err
	})
	c.trips(t, "HEAD of a new manifest", 1, func(n int) error {
		_, err := c.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "none"}, NoBytes: true})
		return missing(err, registry.ErrManifestUnknown)
	})
	c.trips(t, "PutManifest with a new tag", 2, func(n int) error {
		_, err := c.PutManifest(ctx, alice, "a", manifest(config, fmt.Sprint(n), registry.Tag(fmt.Sprint("t", n))))
		return err
	})
	c.trips(t, "PutManifest that moves two tags", 2, func(n int) error {
		_, err := c.PutManifest(ctx, alice, "a", manifest(config, fmt.Sprint("moves ", n), "latest", "also"))
		return err
	})
	for what, q := range map[string]registry.ManifestQuery{
		"HEAD of a tag":    {Ref: registry.Reference{Tag: "t1"}, NoBytes: true},
		"GET of a tag":     {Ref: registry.Reference{Tag: "t1"}},
		"GET of a digest":  {Ref: registry.Reference{Digest: manifest(config, "1").Digest}},
		"GET of known one": {Ref: registry.Reference{Tag: "t1"}, Have: manifest(config, "1").Digest},
	} {
		c.trips(t, what, 1, func(int) error { _, err := c.Manifest(ctx, alice, "a", q); return err })
	}
	c.trips(t, "GET of a blob", 1, func(int) error { _, err := c.Blob(ctx, alice, "a", config.Digest); return err })
	c.trips(t, "list of repositories", 1, func(int) error {
		_, err := c.Repositories(ctx, alice, registry.Page[registry.Name]{Limit: 10})
		return err
	})
	c.trips(t, "list of tags", 2, func(int) error {
		_, err := c.Tags(ctx, alice, "a", registry.Page[registry.Tag]{Limit: 10})
		return err
	})
	c.trips(t, "list of referrers", 2, func(int) error {
		_, err := c.Referrers(ctx, alice, "a", config.Digest, "", registry.Page[registry.Digest]{Limit: 10})
		return err
	})
	c.trips(t, "Mount into a new repository", 7, func(n int) error {
		_, err := c.Mount(ctx, alice, registry.Name(fmt.Sprint("m", n)), config.Digest, "a")
		return err
	})
	c.trips(t, "DeleteTag", 3, func(n int) error {
		return c.DeleteTag(ctx, alice, "a", registry.Tag(fmt.Sprint("t", n)), registry.Condition{})
	})
}

// A stale answer costs no query, comes half as late as allowed at most (the other
// half is for gateways), and a process
// never gives one for what it has changed itself.
func TestMaxStaleness(t *testing.T) {
	now := time.Unix(1000, 0)
	server := pgtest.Shared(t)
	proxy := pgtest.NewProxy(t, server.Port)
	db := server.Database(t)
	c := openCatalog(t, pgtest.DSN(proxy.Port, db), metadata.Options{Follow: time.Hour, MaxStaleness: time.Second, Now: func() time.Time { return now }})
	other := openCatalog(t, server.DSN(db), metadata.Options{})
	config := blob("config")
	link(t, c, "a", config)
	one, two, three := manifest(config, "1", "latest"), manifest(config, "2", "latest"), manifest(config, "3", "latest")
	put(t, other, "a", one)
	read := func(want registry.ManifestPut, trips int) {
		t.Helper()
		proxy.Took()
		if got := tagged(t, c, "a", "latest"); got != want.Digest {
			t.Errorf("the tag is %s, want %s", got, want.Digest)
		}
		// A connection may have to describe the statement first.
		if got := len(proxy.Took()); trips == 0 && got != 0 || trips > 0 && got == 0 {
			t.Errorf("%d round trips, want %d", got, trips)
		}
	}
	read(one, 1)
	put(t, other, "a", two)
	now = now.Add(time.Second / 2)
	read(one, 0)
	now = now.Add(time.Millisecond)
	read(two, 1)
	read(two, 0)
	put(t, c, "a", three)
	read(three, 1)
}
