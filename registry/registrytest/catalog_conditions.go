package registrytest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func conditionTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ConditionOfPut", testConditionOfPut},
		{"ConditionOfManyTags", testConditionOfManyTags},
		{"ConditionOfDelete", testConditionOfDelete},
		{"ConditionRace", testConditionRace},
	}
}

// putIf stores an image that has its content already.
func (c *catalog) putIf(t *testing.T, data []byte, cond registry.Condition, tags ...registry.Tag) error {
	t.Helper()
	_, err := c.PutManifest(t.Context(), alice, "a", registry.ManifestPut{
		Digest: sha256of(data), MediaType: registry.TypeManifest, Bytes: data, Tags: tags, If: cond,
	})
	return err
}

func testConditionOfPut(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one, two := c.imageBytes(t, "a", "1"), c.imageBytes(t, "a", "2")
	d1, d2 := sha256of(one), sha256of(two)
	absent := registry.Condition{Absent: true}

	wantErr(t, "put, If-Match of a tag that is not there", c.putIf(t, one, registry.Condition{Match: d1}, "t"), registry.ErrPreconditionFailed)
	c.checkNoManifest(t, "a", d1)
	must(t, "put, If-None-Match of a tag that is not there", c.putIf(t, one, absent, "t"))
	wantErr(t, "put, If-None-Match of a tag that is there", c.putIf(t, two, absent, "t"), registry.ErrPreconditionFailed)
	wantErr(t, "the same put again, If-None-Match", c.putIf(t, one, absent, "t"), registry.ErrPreconditionFailed)
	wantErr(t, "put, If-Match of another digest", c.putIf(t, two, registry.Condition{Match: d2}, "t"), registry.ErrPreconditionFailed)
	c.checkTag(t, "a", "t", d1)
	c.checkNoManifest(t, "a", d2)
	must(t, "put, If-Match", c.putIf(t, two, registry.Condition{Match: d1}, "t"))
	c.checkTag(t, "a", "t", d2)
	wantErr(t, "the same put again, If-Match", c.putIf(t, two, registry.Condition{Match: d1}, "t"), registry.ErrPreconditionFailed)

	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "t", registry.Condition{}))
	wantErr(t, "put, If-Match of a tag that is gone", c.putIf(t, one, registry.Condition{Match: d2}, "t"), registry.ErrPreconditionFailed)
	must(t, "put, If-None-Match of a tag that is gone", c.putIf(t, one, absent, "t"))
	if diff := cmp.Diff([]registry.Digest{d1, "", d2, d1}, c.history(t, "a", "t", 10)); diff != "" {
		t.Errorf("TagHistory: -want +got\n%s", diff)
	}
}

func testConditionOfManyTags(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one, two := c.imageBytes(t, "a", "1"), c.imageBytes(t, "a", "2")
	d1, d2 := sha256of(one), sha256of(two)
	must(t, "put", c.putIf(t, one, registry.Condition{}, "b", "d"))

	// One tag that fails, the first, one between, the last: nothing happens.
	for _, tags := range [][]registry.Tag{{"b", "x", "y"}, {"x", "b", "y"}, {"x", "y", "b"}} {
		wantErr(t, "put, If-None-Match", c.putIf(t, two, registry.Condition{Absent: true}, tags...), registry.ErrPreconditionFailed)
	}
	wantErr(t, "put, If-Match", c.putIf(t, two, registry.Condition{Match: d1}, "b", "x", "d"), registry.ErrPreconditionFailed)
	c.checkNoManifest(t, "a", d2)
	if diff := cmp.Diff([]registry.Tag{"b", "d"}, c.tags(t, "a", 10)); diff != "" {
		t.Errorf("Tags: -want +got\n%s", diff)
	}
	for _, tag := range []registry.Tag{"b", "d", "x", "y"} {
		if got := c.history(t, "a", tag, 10); len(got) > 1 {
			t.Errorf("TagHistory of %s has a change that did not happen: %v", tag, got)
		}
	}
	must(t, "put, If-Match of both", c.putIf(t, two, registry.Condition{Match: d1}, "b", "d"))
	must(t, "put, If-None-Match of both", c.putIf(t, two, registry.Condition{Absent: true}, "x", "y"))
	for _, tag := range []registry.Tag{"b", "d", "x", "y"} {
		c.checkTag(t, "a", tag, d2)
	}
}

func testConditionOfDelete(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	d1 := c.image(t, "a", "1", "t")
	d2 := c.image(t, "a", "2", "other")
	del := func(tag registry.Tag, cond registry.Condition) error {
		return c.DeleteTag(t.Context(), alice, "a", tag, cond)
	}
	wantErr(t, "DeleteTag, If-Match of another digest", del("t", registry.Condition{Match: d2}), registry.ErrPreconditionFailed)
	wantErr(t, "DeleteTag, If-None-Match", del("t", registry.Condition{Absent: true}), registry.ErrPreconditionFailed)
	c.checkTag(t, "a", "t", d1)
	must(t, "DeleteTag, If-Match", del("t", registry.Condition{Match: d1}))
	c.checkTag(t, "a", "t", "")
	// Both are true of a tag that is not there.
	wantErr(t, "DeleteTag again, If-Match", del("t", registry.Condition{Match: d1}), registry.ErrPreconditionFailed, registry.ErrManifestUnknown)
	wantErr(t, "DeleteTag again", del("t", registry.Condition{}), registry.ErrManifestUnknown)
	c.checkTag(t, "a", "other", d2)
}

// racers is how many do the same thing at once.
const racers = 16

// race runs f for each racer at once and returns what each got.
func race(f func(i int) error) []error {
	var ready, all sync.WaitGroup
	errs := make([]error, racers)
	ready.Add(racers)
	for i := range racers {
		all.Go(func() {
			ready.Done()
			ready.Wait()
			errs[i] = f(i)
		})
	}
	all.Wait()
	return errs
}

// winner checks that exactly one racer got no error, and the others want, and
// returns it.
func winner(t *testing.T, what string, errs []error, want error) int {
	t.Helper()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("%s: %d and %d both won", what, won, i)
		case !errors.Is(err, want):
			t.Errorf("%s: a loser got error %v, want %v", what, err, want)
		}
	}
	if won < 0 {
		t.Fatalf("%s: nobody won: %v", what, errs[0])
	}
	return won
}

func testConditionRace(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	var history []registry.Digest
	cond := registry.Condition{Absent: true}
	for round := range 5 {
		var data [racers][]byte
		for i := range data {
			data[i] = note(fmt.Sprint(round, "/", i))
		}
		won := winner(t, "putting", race(func(i int) error {
			_, err := c.PutManifest(t.Context(), alice, "a", registry.ManifestPut{
				Digest: sha256of(data[i]), MediaType: registry.TypeIndex, Bytes: data[i], Tags: []registry.Tag{"t", "u"}, If: cond,
			})
			return err
		}), registry.ErrPreconditionFailed)
		d := sha256of(data[won])
		for i := range data {
			if i != won {
				c.checkNoManifest(t, "a", sha256of(data[i]))
			}
		}
		history = append([]registry.Digest{d}, history...)
		for _, tag := range []registry.Tag{"t", "u"} {
			c.checkTag(t, "a", tag, d)
			if diff := cmp.Diff(history, c.history(t, "a", tag, 100)); diff != "" {
				t.Errorf("TagHistory of %s: -want +got\n%s", tag, diff)
			}
		}
		cond = registry.Condition{Match: d}
	}
	winner(t, "deleting", race(func(int) error {
		return c.DeleteTag(t.Context(), alice, "a", "t", registry.Condition{})
	}), registry.ErrManifestUnknown)
}
