package syncer_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

// TestUploadRate: what is passed on keeps to the rule's limit, or that of the part of the
// week, for all of its pushes together.
func TestUploadRate(t *testing.T) {
	const size, rate = 60_000, 80_000
	always := syncer.Window{To: 24 * time.Hour, Upload: rate, Copies: true}
	for d := range always.Days {
		always.Days[d] = true
	}
	for name, limit := range map[string]func(*syncer.Rule){
		"uploadRate": func(r *syncer.Rule) { r.Upload = rate },
		"bandwidth":  func(r *syncer.Rule) { r.Upload, r.Windows = 1, []syncer.Window{always} },
	} {
		up := newHostile(t)
		var began, last atomic.Int64
		up.set(func() {
			up.answer = func(w http.ResponseWriter, r *http.Request) bool {
				switch r.Method {
				case http.MethodPost, http.MethodPatch:
					began.CompareAndSwap(0, time.Now().UnixNano())
					_, _ = io.Copy(io.Discard, r.Body)
					last.Store(time.Now().UnixNano())
					w.Header().Set("Location", "/v2/a/blobs/uploads/1")
					w.WriteHeader(http.StatusAccepted)
				case http.MethodPut:
					w.WriteHeader(http.StatusCreated)
				default:
					return false
				}
				return true
			}
		})
		r := at(t, up.URL)
		r.Push, r.OnDemand = registry.PushForward, false
		limit(r)
		w := open(t, r)
		for _, repo := range []registry.Name{"a", "b"} {
			d := w.pushImage(t, repo, "v1", strings.Repeat(string(repo), size))
			receipt, err := w.Announce(t.Context(), nobody, repo, registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: d})
			if err == nil {
				err = w.Settle(t.Context(), receipt, true)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "both are passed on", func() bool {
			all, err := w.Forwards(t.Context(), registry.ForwardQuery{Open: true, Limit: 10})
			return err == nil && len(all) == 0
		})
		took, least := time.Duration(last.Load()-began.Load()), time.Duration(2*size)*time.Second/rate
		if took < least*9/10 || took > 10*least {
			t.Errorf("%s: %d bytes took %v, at least %v by the limit", name, 2*size, took, least)
		}
	}
}
