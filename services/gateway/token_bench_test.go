package gateway

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/berth-registry/berth/services/gateway/identity"
)

// BenchmarkManifestByToken compares a manifest that anybody may read with one that
// is read with a token: the goal is 1.15 times the time at most.
func BenchmarkManifestByToken(b *testing.B) {
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(io.Discard, nil))
	w.withIdentity(b, identity.Options{}, "alice")
	url := w.serve(b)
	push := askToken(b, url, basic("alice", "alice"), "repository:a:pull,push").Token
	pushImage(b, url, "a", "t", bearer(push)...)
	g := w.gateway(b)
	pull := askToken(b, url, basic("alice", "alice"), "repository:a:pull").Token
	for _, test := range []struct{ name, header string }{{"anonymous", ""}, {"token", "Bearer " + pull}} {
		b.Run(test.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/v2/a/manifests/t", nil)
			if test.header != "" {
				r.Header.Set("Authorization", test.header)
			}
			d := &discard{h: make(map[string][]string, 16)}
			b.ReportAllocs()
			for b.Loop() {
				clear(d.h)
				g.ServeHTTP(d, r)
			}
			if d.status != 200 {
				b.Fatalf("status %d", d.status)
			}
		})
	}
}
