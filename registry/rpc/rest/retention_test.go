package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func (a *asked) PullsOf(_ context.Context, who registry.Actor, repo registry.Name, d registry.Digest, _ registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	return registry.List[registry.Pull]{}, a.note(who, repo, "pulls of "+d.String())
}

func (a *asked) ExplainRetention(_ context.Context, who registry.Actor, repo registry.Name, only registry.Reference, _ registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
	return registry.List[registry.RetentionDecision]{}, a.note(who, repo, "explain "+only.String())
}

func (a *asked) ApplyRetention(_ context.Context, who registry.Actor, repo registry.Name) (registry.RetentionReport, error) {
	return registry.RetentionReport{}, a.note(who, repo, "apply")
}

func (a *asked) RollbackTag(_ context.Context, who registry.Actor, repo registry.Name, t registry.Tag, to registry.Digest, _ registry.Condition) (registry.TagChange, error) {
	return registry.TagChange{}, a.note(who, repo, fmt.Sprintf("rollback %s to %s", t, to))
}

// What the methods about retention answer, and what they refuse.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	base := w.serve(t)
	in := base + "/repositories/a/-"
	d := registry.Digest(sum(image))
	err := w.catalog.CountPulls(t.Context(), []registry.Pull{
		{Repository: "a", Digest: d, Actor: "bob", At: 1_000_000, Count: 2},
		{Repository: "a", Digest: d, Tag: "v1", At: 2_000_000, Count: 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"GET " + in + "/manifests/" + d.String() + "/pulls":                       `{"pulls":[{"tag":"","count":"2","time":"1970-01-01T00:00:01Z","actor":"bob"},{"tag":"v1","count":"3","time":"1970-01-01T00:00:02Z","actor":""}],"next":""}`,
		"GET " + in + "/manifests/" + d.String() + "/pulls?limit=1":               `{"pulls":[{"tag":"","count":"2","time":"1970-01-01T00:00:01Z","actor":"bob"}],"next":"-"}`,
		"GET " + in + "/manifests/" + d.String() + "/pulls?limit=1&after=-":       `{"pulls":[{"tag":"v1","count":"3","time":"1970-01-01T00:00:02Z","actor":""}],"next":""}`,
		"GET " + in + "/manifests/v1/pulls":                                       `"DigestInvalid"`,
		"GET " + in + "/retention?reference=sha256:x":                             `"DigestInvalid"`,
		"GET " + in + "/retention?limit=0":                                        `"PageInvalid"`,
		"GET " + base + "/repositories/nowhere/-/retention":                       `"NameUnknown"`,
		"POST " + base + "/repositories/nowhere/-/retention":                      `"NameUnknown"`,
		"POST " + in + "/tags/v1/rollback/v1":                                     `"DigestInvalid"`,
		"POST " + in + "/tags/v1/rollback/" + unknown:                             `"ManifestUnknown"`,
		"POST " + in + "/tags/v1/rollback/" + d.String() + "?ifDigest=" + unknown: `"PreconditionFailed"`,
		"POST " + in + "/tags/v1/rollback/" + d.String() + "?ifDigest=":           `"DigestInvalid"`,
		"GET " + in + "/tags/v1/rollback/" + d.String():                           `"Unsupported"`,
		"DELETE " + in + "/retention":                                             `"Unsupported"`,
	} {
		var method, url string
		if _, err := fmt.Sscan(request, &method, &url); err != nil {
			t.Fatal(err)
		}
		got := ask(t, method, url)
		var have, expect any
		if err := json.Unmarshal([]byte(want), &expect); err != nil {
			t.Fatal(err)
		}
		if code, ok := object(t, got.body)["code"]; ok {
			have = code
		} else if err := json.Unmarshal([]byte(got.body), &have); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expect, have); diff != "" {
			t.Errorf("%s (-want +got): %s\n%s", request, got.body, diff)
		}
	}
	o := object(t, ask(t, "GET", in+"/retention?reference=v1").body)
	if all, _ := o["decisions"].([]any); len(all) != 1 || all[0].(map[string]any)["keep"] != true {
		t.Errorf("explaining v1: got %v", o)
	}
	if o := object(t, ask(t, "POST", in+"/retention").body); o["deleted"] != "0" || o["dryRun"] != false {
		t.Errorf("applying: got %v", o)
	}
}
