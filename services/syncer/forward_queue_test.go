package syncer_test

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestAnnouncedPushIsLeftAlone: a push that was announced is looked for only when it has
// had its time to be stored. It may be announced after a look has begun, or by a syncer
// whose clock is a little ahead: to look for it then would take it for one that was
// refused, and it would not be passed on. A clock that was set back holds nothing up.
func TestAnnouncedPushIsLeftAlone(t *testing.T) {
	r := at(t, newHostile(t).URL)
	r.Push = registry.PushForward
	w := open(t, r)
	ctx := t.Context()
	if err := w.Pause(ctx, w.Names()[0], true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Announce(ctx, nobody, "a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: registry.SHA256.FromString("x")}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		age  time.Duration
		want bool
	}{{-2 * time.Minute, true}, {-2 * time.Second, false}, {0, false}, {50 * time.Second, false}, {2 * time.Minute, true}} {
		w.later.Store(int64(test.age))
		if got, err := w.NextForward(ctx); err != nil || got != test.want {
			t.Errorf("%v after it was announced: looked for %v, %v; want %v", test.age, got, err, test.want)
		}
	}
}
