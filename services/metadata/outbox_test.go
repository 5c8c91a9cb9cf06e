package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// receiver is a sink that is dead, or refuses, when told so.
type receiver struct {
	dead, refuses atomic.Bool
	got           chan metadata.OutboxEvent
}

func newReceiver() *receiver { return &receiver{got: make(chan metadata.OutboxEvent, 1000)} }

func (r *receiver) Name() string { return "test" }
func (r *receiver) Close() error { return nil }

func (r *receiver) Send(_ context.Context, e metadata.OutboxEvent) error {
	switch {
	case r.dead.Load():
		return errors.New("nobody answers")
	case r.refuses.Load():
		return metadata.ErrEventRefused
	}
	r.got <- e
	return nil
}

// next returns the next event that was delivered, in short, and its data.
func (r *receiver) next(t *testing.T) (string, map[string]any) {
	t.Helper()
	select {
	case e := <-r.got:
		var data map[string]any
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %v %v", e.Type, data["name"], data["reference"]), data
	case <-time.After(2 * time.Minute):
		t.Fatal("no event came")
		return "", nil
	}
}

func (r *receiver) want(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got, _ := r.next(t); got != w {
			t.Errorf("got %q, want %q", got, w)
		}
	}
}

// Each change is told once, in order, with zot's members.
func TestOutbox(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		r := newReceiver()
		s := openStore(t, at(t), metadata.Options{Outbox: metadata.Outbox{Sinks: []metadata.Sink{r}}}, nil)
		ctx := t.Context()
		one := pushImage(t, s, "a/b", "one", "v1", "v2")
		r.want(t, "zotregistry.repository.created a/b <nil>", "zotregistry.image.updated a/b v1")
		_, data := r.next(t)
		want := map[string]any{
			"name": "a/b", "reference": "v2", "digest": string(one.Digest), "mediaType": registry.TypeManifest, "manifest": string(one.Bytes),
			"actor": map[string]any{"name": "alice"},
		}
		if diff := cmp.Diff(want, data); diff != "" {
			t.Errorf("the data of an event (-want +got):\n%s", diff)
		}
		put(t, s, "a/b", one) // changes nothing
		two := pushImage(t, s, "a/b", "two")
		put(t, s, "a/b", registry.ManifestPut{Digest: two.Digest, MediaType: two.MediaType, Bytes: two.Bytes, Tags: []registry.Tag{"v2"}})
		how := alice
		how.Request = &registry.ActorRequest{Method: "DELETE", ClientIP: "192.0.2.1", UserAgent: "crane"}
		if err := s.DeleteTag(ctx, how, "a/b", "v1", registry.Condition{}); err != nil {
			t.Fatal(err)
		}
		r.want(t, "zotregistry.image.updated a/b "+string(two.Digest), "zotregistry.image.updated a/b v2")
		_, data = r.next(t)
		want = map[string]any{
			"name": "a/b", "reference": "v1", "digest": string(one.Digest), "mediaType": registry.TypeManifest,
			"actor": map[string]any{"name": "alice"}, "request": map[string]any{"addr": "192.0.2.1", "method": "DELETE", "useragent": "crane"},
		}
		if diff := cmp.Diff(want, data); diff != "" {
			t.Errorf("the data of a deleted tag (-want +got):\n%s", diff)
		}
		if err := s.DeleteManifest(ctx, alice, "a/b", two.Digest); err != nil {
			t.Fatal(err)
		}
		r.want(t, "zotregistry.image.deleted a/b v2", "zotregistry.image.deleted a/b "+string(two.Digest))
		e := registry.Announcement{ID: registry.NewAuditID(5), Type: registry.ImageLintFailed, Repo: "a/b", Reference: "v3", Data: map[string]json.RawMessage{"manifest": json.RawMessage(`"{}"`)}}
		if err := errors.Join(s.Announce(ctx, []registry.Announcement{e}), s.Announce(ctx, []registry.Announcement{e})); err != nil {
			t.Fatal(err)
		}
		if got, data := r.next(t); got != "zotregistry.image.lint_failed a/b v3" || data["manifest"] != "{}" {
			t.Errorf("got %s, %v", got, data)
		}
		list, err := s.Announced(ctx, alice, registry.AnnouncementQuery{Limit: 100, Repo: "a/b"})
		if err != nil || len(list.Items) != 9 || list.More {
			t.Errorf("the list has %d entries: %v", len(list.Items), err)
		}
	})
}

// A dead receiver holds up nothing, and is told all in order when it is well, also by
// a process that came after a crash.
func TestS124OutboxReceiverDead(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		r := newReceiver()
		s := openStore(t, at(t), metadata.Options{Outbox: metadata.Outbox{Sinks: []metadata.Sink{r}}}, nil)
		pushImage(t, s, "a", "0", "v0")
		r.want(t, "zotregistry.repository.created a <nil>", "zotregistry.image.updated a v0")
		r.dead.Store(true)
		for i := 1; i < 150; i++ { // more than a batch
			pushImage(t, s, "a", fmt.Sprint(i), registry.Tag(fmt.Sprint("v", i)))
		}
		s = s.crash(t)
		r.dead.Store(false)
		last, n := "", 0
		for last != "zotregistry.image.updated a v149" {
			got, _ := r.next(t)
			if want := fmt.Sprint("zotregistry.image.updated a v", n+1); got == want {
				n++
			} else if got > want && n == 0 {
				t.Fatalf("got %q before %q", got, want)
			}
			last = got
		}
		if n != 149 {
			t.Errorf("%d events came in order", n)
		}
		all, err := s.Sinks(t.Context(), alice)
		if err != nil || len(all) != 1 || all[0].Dropped != 0 || all[0].Name != "test" {
			t.Errorf("sinks: %+v, %v", all, err)
		}
	})
}

// What waits is bounded: the oldest goes, and is counted.
func TestS124OutboxBounded(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		r := newReceiver()
		s := openStore(t, at(t), metadata.Options{Outbox: metadata.Outbox{Sinks: []metadata.Sink{r}, Max: 10}}, nil)
		r.dead.Store(true)
		for i := range 40 {
			pushImage(t, s, "a", fmt.Sprint(i), registry.Tag(fmt.Sprint("v", i)))
		}
		dropped := func() int64 {
			t.Helper()
			all, err := s.Sinks(t.Context(), alice)
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			if all[0].Error == "" && all[0].At == 0 {
				t.Error("a failure is not told")
			}
			return all[0].Dropped
		}
		for deadline := time.Now().Add(2 * time.Minute); dropped() < 31; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d events were dropped", dropped())
			}
		}
		if err := s.TrimOutbox(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := s.Announced(t.Context(), alice, registry.AnnouncementQuery{Limit: 100})
		if err != nil || len(list.Items) != 10 {
			t.Errorf("%d events are left: %v", len(list.Items), err)
		}
		r.dead.Store(false)
		for i := 30; i < 40; i++ {
			r.want(t, fmt.Sprint("zotregistry.image.updated a v", i))
		}
	})
}

// The same holds for a receiver that takes events, but more slowly than they come.
func TestOutboxSlowReceiver(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		r := newReceiver()
		r.got = make(chan metadata.OutboxEvent)
		s := openStore(t, at(t), metadata.Options{Outbox: metadata.Outbox{Sinks: []metadata.Sink{r}, Max: 10}}, nil)
		pushImage(t, s, "a", "0", "v0")
		r.want(t, "zotregistry.repository.created a <nil>") // it takes one, and holds up the next
		for i := 1; i < 40; i++ {
			pushImage(t, s, "a", fmt.Sprint(i), registry.Tag(fmt.Sprint("v", i)))
		}
		n := 1
		for last := ""; last != "zotregistry.image.updated a v39"; n++ {
			last, _ = r.next(t)
		}
		if n > 22 { // those of the rounds in progress, and ten that wait
			t.Errorf("%d events were delivered", n)
		}
		all, err := s.Sinks(t.Context(), alice)
		if err != nil || len(all) != 1 || all[0].Dropped == 0 {
			t.Errorf("sinks: %+v, %v", all, err)
		}
	})
}

// An event that is refused does not hold up those behind it for ever.
func TestOutboxRefusedEvent(t *testing.T) {
	r := newReceiver()
	s := openStore(t, onSQLite(t), metadata.Options{Outbox: metadata.Outbox{Sinks: []metadata.Sink{r}}}, nil)
	r.refuses.Store(true)
	pushImage(t, s, "a", "0", "v0")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		all, err := s.Sinks(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		if all[0].Dropped == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sinks: %+v", all)
		}
	}
	r.refuses.Store(false)
	pushImage(t, s, "a", "1", "v1")
	r.want(t, "zotregistry.image.updated a v1")
}
