package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestDockerTakesARefusalForOne: of an answer's errors Docker's engine keeps the code
// alone if there is no detail and the message is its own, word for word, and then sends
// the request again, six times and longer each time; else it ends at once for these four
// codes. So it must for what stays refused, and try again when there was too much.
func TestDockerTakesARefusalForOne(t *testing.T) {
	ends := map[string]string{
		"UNAUTHORIZED":    "authentication required",
		"DENIED":          "requested access to the resource is denied",
		"UNSUPPORTED":     "The operation is unsupported.",
		"NAME_UNKNOWN":    "repository name not known to registry",
		"TOOMANYREQUESTS": "too many requests",
	}
	g := newWorld().gateway(t)
	seen := make(map[string]bool)
	for _, code := range registry.Codes() {
		words, ok := ends[code.OCI()]
		if !ok {
			continue
		}
		seen[code.OCI()] = true
		rec := httptest.NewRecorder()
		x := &exchange{w: rec, r: httptest.NewRequest(http.MethodPost, "/v2/a/blobs/uploads/", nil), idle: time.Minute, pins: new(pins), settings: g.settings.Load()}
		g.fail(x, &registry.Error{Code: code})
		var got struct {
			Errors []struct {
				Code, Message string
				Detail        any
			}
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || len(got.Errors) != 1 {
			t.Fatalf("%s: %v: %s", code, err, rec.Body)
		}
		e := got.Errors[0]
		again := e.Detail == nil && (e.Message == "" || e.Message == words)
		if e.Code != code.OCI() || again != (code == registry.TooManyRequests) {
			t.Errorf("%s: sent again %t: %s", code, again, rec.Body)
		}
	}
	if len(seen) != len(ends) {
		t.Errorf("void: of the codes there are only %v", seen)
	}
}
