package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// A gateway whose clock is years ahead does not keep what it tells of for years: no pull
// is later than it was heard of.
func TestPullsOfTheFuture(t *testing.T) { onEach(t, testPullsOfTheFuture) }

func testPullsOfTheFuture(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now,
		Retention: policies(t, `{"policies":[{"repositories":["**"],"keepTags":[{"pulledWithin":"24h"}]}]}`)}, nil)
	m := pushImage(t, s, "a", "x", "v1")
	count(t, s, registry.Pull{Repository: "a", Digest: m.Digest, Tag: "v1", Actor: "bob", At: now.ago(-3650 * day), Count: 1})
	if got, want := pullsOf(t, s, "a", m.Digest)[0].At, now.ago(0); got != want {
		t.Errorf("the pull was at %d, want %d", got, want)
	}
	now.now = now.now.Add(2 * day)
	if got, want := explain(t, s, "a", 9), "v1-"; got != want {
		t.Errorf("two days later: got %s, want %s", got, want)
	}
	count(t, s, registry.Pull{Repository: "a", Digest: m.Digest, Tag: "v1", Actor: "carol", At: now.ago(0), Count: 1})
	if got := pullsOf(t, s, "a", m.Digest)[0].Actor; got != "carol" {
		t.Errorf("the last pull was by %s, want carol", got)
	}
}
