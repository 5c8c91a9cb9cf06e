package retention

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// policies compiles the value of storage.retention.
func policies(t testing.TB, text string) *Policies {
	t.Helper()
	c, _, err := config.Parse("x.json", []byte(`{"storage":{"rootDirectory":"/x","retention":`+text+`}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(c.Storage.Retention, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// images parses "name pushed pulled" with ages in days, - for never.
func images(t testing.TB, lines string) []Image {
	t.Helper()
	var all []Image
	for line := range strings.Lines(lines) {
		var name, pushed, pulled string
		if n, _ := fmt.Sscan(line, &name, &pushed, &pulled); n != 3 {
			continue
		}
		at := func(age string) int64 {
			var days float64
			if _, err := fmt.Sscan(age, &days); err != nil {
				return 0
			}
			return now.Add(-time.Duration(days * 24 * float64(time.Hour))).UnixMicro()
		}
		all = append(all, Image{Tag: registry.Tag(name), Digest: registry.SHA256.FromString(name), Pushed: at(pushed), Pulled: at(pulled)})
	}
	return all
}

// told prints decisions as "name+rule" or "name-".
func told(all []registry.RetentionDecision, images []Image) string {
	var b strings.Builder
	for i, d := range all {
		sign := "-"
		if d.Keep {
			sign = "+"
		}
		fmt.Fprintf(&b, "%s%s%s ", images[i].Tag, sign, d.Rule)
	}
	return strings.TrimSpace(b.String())
}

func TestTags(t *testing.T) {
	const five = `
		v1 50 1
		v2 40 -
		v3 30 20
		v4 20 3
		dev 1 -`
	for _, test := range []struct{ name, keepTags, images, want string }{
		{"no entries keep all", `[]`, five, "v1+ v2+ v3+ v4+ dev+"},
		{"an entry without patterns or rules keeps all", `[{}]`, five, "v1+patterns v2+patterns v3+patterns v4+patterns dev+patterns"},
		{"tags of no entry go", `[{"patterns":["^v"]}]`, five, "v1+patterns v2+patterns v3+patterns v4+patterns dev-"},
		{"patterns are not anchored", `[{"patterns":["1","e"]}]`, five, "v1+patterns v2- v3- v4- dev+patterns"},
		{"a tag belongs to the first entry that matches", `[{"patterns":["^v[12]"],"pushedWithin":"1h"},{"patterns":["^v"]}]`, five, "v1- v2- v3+patterns v4+patterns dev-"},
		{"pushedWithin", `[{"pushedWithin":"720h1m"}]`, five, "v1- v2- v3+pushedWithin v4+pushedWithin dev+pushedWithin"},
		{"pushedWithin does not look at pulls", `[{"pushedWithin":"48h"}]`, five, "v1- v2- v3- v4- dev+pushedWithin"},
		{"pulledWithin", `[{"pulledWithin":"96h"}]`, five, "v1+pulledWithin v2- v3- v4+pulledWithin dev+pulledWithin"},
		{"pulledWithin honours pushes", `[{"pulledWithin":"481h"}]`, five, "v1+pulledWithin v2- v3+pulledWithin v4+pulledWithin dev+pulledWithin"},
		{"the limit itself is too old", `[{"pulledWithin":"72h"}]`, five, "v1+pulledWithin v2- v3- v4- dev+pulledWithin"},
		{"most recently pushed", `[{"mostRecentlyPushedCount":2}]`, five, "v1- v2- v3- v4+mostRecentlyPushedCount dev+mostRecentlyPushedCount"},
		{"most recently pulled", `[{"mostRecentlyPulledCount":2}]`, five, "v1+mostRecentlyPulledCount v2- v3- v4+mostRecentlyPulledCount dev-"},
		{"never pulled ones fill up, the latest push first", `[{"mostRecentlyPulledCount":4}]`, five, "v1+mostRecentlyPulledCount v2- v3+mostRecentlyPulledCount v4+mostRecentlyPulledCount dev+mostRecentlyPulledCount"},
		{"more than there are", `[{"mostRecentlyPushedCount":9}]`, five, "v1+mostRecentlyPushedCount v2+mostRecentlyPushedCount v3+mostRecentlyPushedCount v4+mostRecentlyPushedCount dev+mostRecentlyPushedCount"},
		{"counts are of the entry", `[{"patterns":["^v"],"mostRecentlyPushedCount":1},{"mostRecentlyPushedCount":1}]`, five, "v1- v2- v3- v4+mostRecentlyPushedCount dev+mostRecentlyPushedCount"},
		{"rules are alternatives", `[{"mostRecentlyPulledCount":1,"mostRecentlyPushedCount":1,"pulledWithin":"96h"}]`, five, "v1+mostRecentlyPulledCount v2- v3- v4+pulledWithin dev+mostRecentlyPushedCount"},
		{"a zero count is no rule", `[{"mostRecentlyPushedCount":0}]`, five, "v1+patterns v2+patterns v3+patterns v4+patterns dev+patterns"},
		{"a zero time is a rule", `[{"pushedWithin":"0s"}]`, five, "v1- v2- v3- v4- dev-"},
		{"unknown statistics are kept and not counted", `[{"mostRecentlyPushedCount":1}]`, "a - -\nb 5 -\nc 6 -", "a+ b+mostRecentlyPushedCount c-"},
		{"equal times are taken by name", `[{"mostRecentlyPushedCount":2}]`, "c 5 -\na 5 -\nb 5 -", "c- a+mostRecentlyPushedCount b+mostRecentlyPushedCount"},
		{"the future is recent", `[{"pushedWithin":"1h"}]`, "a -3 -", "a+pushedWithin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := policies(t, `{"policies":[{"repositories":["**"],"keepTags":`+test.keepTags+`}]}`).For("a/b")
			in := images(t, test.images)
			if got := told(p.Tags(now, in), in); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestWhichPolicy(t *testing.T) {
	ps := policies(t, `{"policies":[
		{"repositories":["infra/*","prod/**"]},
		{"repositories":["prod/x","tmp/**"],"keepTags":[{}]},
		{"repositories":["*"]}]}`)
	for repo, want := range map[registry.Name]int{"infra/a": 1, "infra/a/b": 0, "prod/x": 1, "tmp/a/b": 2, "tmp": 2, "a": 3, "a/b": 0} {
		if got := ps.For(repo).number; got != want {
			t.Errorf("%s: policy %d, want %d", repo, got, want)
		}
	}
	if !ps.DeleteTags() || policies(t, `{"policies":[{"repositories":["**"]}]}`).DeleteTags() {
		t.Error("DeleteTags is true if a policy has keepTags")
	}
	none, err := Compile(nil, time.Hour)
	if err != nil || none.DeleteTags() || none.For("a").number != 0 {
		t.Errorf("a file without retention has policies: %v", err)
	}
}

// What the decision says besides keep: which policy, which entry, and why.
func TestReasons(t *testing.T) {
	p := policies(t, `{"policies":[{"repositories":["x"]},{"repositories":["**"],"keepTags":[{"patterns":["^none"]},{"patterns":["^v"],"pulledWithin":"168h","mostRecentlyPushedCount":1}]}]}`).For("a")
	in := images(t, "v1 100 1\nv2 1 -\nv3 100 -\ndev 1 -\nold - -\nfixed 100 -")
	in[5].Immutable = true
	want := []struct {
		keep   bool
		entry  int
		reason string
	}{
		{true, 2, "retained by pulledWithin:168h0m0s policy"},
		{true, 2, "retained by mostRecentlyPushedCount:1 policy"},
		{false, 2, "didn't meet any tag retention rule"},
		{false, 0, "didn't meet any tag 'patterns' rules"},
		{true, 0, "tag statistics not found"},
		{true, 0, "the tag is immutable"},
	}
	for i, d := range p.Tags(now, in) {
		if d.Policy != 2 || d.Tag != in[i].Tag || d.Digest != in[i].Digest || d.Pushed != in[i].Pushed || d.Pulled != in[i].Pulled ||
			d.Keep != want[i].keep || d.Entry != want[i].entry || d.Reason != want[i].reason {
			t.Errorf("got %+v, want %+v", d, want[i])
		}
	}
}

func TestUntagged(t *testing.T) {
	const three = `
		young 0.01 -
		pulled 10 1
		old 10 -`
	for _, test := range []struct{ name, retention, want string }{
		{"by default untagged manifests go", `{}`, "young+ pulled- old-"},
		{"those of a repository without a policy, too", `{"policies":[{"repositories":["other"],"deleteUntagged":false}]}`, "young+ pulled- old-"},
		{"deleteUntagged is on unless it is off", `{"policies":[{"repositories":["**"]}]}`, "young+ pulled- old-"},
		{"deleteUntagged off", `{"policies":[{"repositories":["**"],"deleteUntagged":false}]}`, "young+ pulled+ old+"},
		{"delay", `{"delay":"1m"}`, "young- pulled- old-"},
		{"a long delay", `{"delay":"241h"}`, "young+ pulled+ old+"},
		{"keepUntagged by pull", `{"policies":[{"repositories":["**"],"keepUntagged":{"pulledWithin":"48h"}}]}`, "young+pulledWithin pulled+pulledWithin old-"},
		{"keepUntagged by push", `{"delay":"0s","policies":[{"repositories":["**"],"keepUntagged":{"pushedWithin":"1m"}}]}`, "young- pulled- old-"},
		{"keepUntagged by number", `{"delay":"0s","policies":[{"repositories":["**"],"keepUntagged":{"mostRecentlyPulledCount":1}}]}`, "young- pulled+mostRecentlyPulledCount old-"},
		{"keepUntagged by push number", `{"delay":"0s","policies":[{"repositories":["**"],"keepUntagged":{"mostRecentlyPushedCount":2}}]}`, "young+mostRecentlyPushedCount pulled+mostRecentlyPushedCount old-"},
		{"keepUntagged without rules keeps all", `{"delay":"0s","policies":[{"repositories":["**"],"keepUntagged":{}}]}`, "young+keepUntagged pulled+keepUntagged old+keepUntagged"},
		{"deleteUntagged off beats keepUntagged", `{"policies":[{"repositories":["**"],"deleteUntagged":false,"keepUntagged":{"mostRecentlyPushedCount":1}}]}`, "young+ pulled+ old+"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := policies(t, test.retention).For("a/b")
			in := images(t, three)
			if got := told(p.Untagged(now, in), in); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// What belongs to a manifest follows it, whether by its subject or by its tag.
func TestReferrersFollowTheirSubject(t *testing.T) {
	for _, test := range []struct {
		policy, untagged, tagged string
	}{
		{`"deleteReferrers":false`, "there+ gone+ fresh+ plain-", "there+ gone+ fresh+ plain+"},
		{`"deleteReferrers":true`, "there+ gone- fresh+ plain-", "there+ gone- fresh+ plain+"},
		{`"deleteReferrers":true,"keepTags":[{"patterns":["^v"]}]`, "there+ gone- fresh+ plain-", "there+ gone- fresh+ plain-"},
	} {
		p := policies(t, `{"policies":[{"repositories":["**"],`+test.policy+`}]}`).For("a")
		in := images(t, "there 10 -\ngone 10 -\nfresh 0.01 -\nplain 10 -")
		for i := range 3 {
			in[i].Subject, in[i].SubjectGone = registry.SHA256.FromString("subject"), i > 0
		}
		if got := told(p.Untagged(now, in), in); got != test.untagged {
			t.Errorf("untagged, %s:\ngot  %s\nwant %s", test.policy, got, test.untagged)
		}
		if got := told(p.Tags(now, in), in); got != test.tagged {
			t.Errorf("tagged, %s:\ngot  %s\nwant %s", test.policy, got, test.tagged)
		}
	}
	// Without a policy tags stay, and what is untagged follows.
	p := Default(time.Hour).For("a")
	in := images(t, "there 10 -\ngone 10 -")
	in[0].Subject, in[1].Subject, in[1].SubjectGone = "x", "x", true
	if got := told(p.Untagged(now, in), in) + told(p.Tags(now, in), in); got != "there+ gone-there+ gone+" {
		t.Errorf("without a policy: %s", got)
	}
}

func TestSubjectOf(t *testing.T) {
	d := registry.SHA256.FromString("x")
	tag := "sha256-" + d.Encoded()
	for in, want := range map[string]registry.Digest{
		tag: d, tag + ".sig": d, tag + ".att": d, tag + ".sbom": d,
		tag + ".x": "", "v" + tag: "", tag[:70]: "", "latest": "", "sha512-" + d.Encoded(): "",
	} {
		if got := SubjectOf(registry.Tag(in)); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// Whatever the file says, it is refused when it is loaded or it can be compiled,
// and decisions come in the order of the images.
func FuzzPolicies(f *testing.F) {
	f.Add("**", "^v", "latest", 1)
	f.Add("{a,b}/*", "(", "x", 0)
	f.Add("[a-", `\d+$`, "1", -1)
	f.Fuzz(func(t *testing.T, repo, pattern, tag string, n int) {
		c := config.Retention{Policies: []config.RetentionPolicy{{
			Repositories: []string{repo},
			KeepTags:     []config.KeepTag{{Patterns: []string{pattern}, KeepRule: config.KeepRule{MostRecentlyPushedCount: n}}},
		}}}
		full := config.Defaults()
		full.Storage.RootDirectory, full.Storage.Retention = "/x", &c
		valid := full.Validate() == nil
		ps, err := Compile(&c, time.Hour)
		if valid && err != nil {
			t.Fatalf("a valid policy can't be compiled: %v", err)
		}
		if !valid {
			return
		}
		in := []Image{{Tag: registry.Tag(tag), Pushed: 1}, {Tag: "b", Pushed: 2}}
		for i, d := range ps.For("a/b").Tags(now, in) {
			if d.Tag != in[i].Tag || d.Reason == "" {
				t.Errorf("got %+v for %+v", d, in[i])
			}
		}
	})
}
