package syncer_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

const noticeSecret = "a secret of both registries"

// telling is a rule that copies what its upstream tells of, and nothing else.
func telling(t *testing.T, up *hostile, content ...syncer.Content) *syncer.Rule {
	t.Helper()
	r := at(t, up.URL, content...)
	r.OnDemand, r.NoticeSecret = false, func() (string, error) { return noticeSecret, nil }
	return r
}

// event is a notice that was signed at a time.
func event(secret string, at time.Time, kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("id." + stamp + "." + body))
	r.Header.Set("Ce-Type", kind)
	r.Header.Set("Webhook-Id", "id")
	r.Header.Set("Webhook-Timestamp", stamp)
	r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return r
}

func (w *world) tell(r *http.Request) int {
	rec := httptest.NewRecorder()
	w.Notices().ServeHTTP(rec, r)
	return rec.Code
}

func (w *world) told(t *testing.T, repo, tag string) {
	t.Helper()
	w.toldThat(t, registry.ImageUpdated, repo, tag)
}

func (w *world) toldThat(t *testing.T, kind, repo, tag string) {
	t.Helper()
	body := `{"name":"` + repo + `","reference":"` + tag + `","digest":"` + string(registry.SHA256.FromString("x")) + `"}`
	if code := w.tell(event(noticeSecret, clock(), kind, body)); code != http.StatusNoContent {
		t.Fatalf("a notice of %s:%s: %d", repo, tag, code)
	}
}

// comes waits until a tag is here and is d.
func (w *world) comes(t *testing.T, repo registry.Name, name registry.Tag, d registry.Digest) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%s:%s is %s", repo, name, d), func() bool {
		m, err := w.catalog.Manifest(t.Context(), nobody, repo, registry.ManifestQuery{Ref: tag(name), NoBytes: true})
		return err == nil && m.Digest == d
	})
}

// TestNotices: a tag that the upstream tells of is copied with its content, by the names
// of the rule, and nothing else is asked for; a tag that the rule does not select, a
// digest, a removal and another repository are taken note of and ignored.
func TestNotices(t *testing.T) {
	up := newHostile(t)
	one, _ := up.image(t, "team/app", "v1", []byte("one"))
	up.image(t, "team/app", "dev", []byte("dev"))
	up.image(t, "other/app", "v1", []byte("other"))
	w := open(t, telling(t, up, syncer.Content{Prefix: "team/**", Destination: "/hq", Regex: regexp.MustCompile("^v")}))
	for _, ignored := range []struct{ kind, body string }{
		{registry.ImageUpdated, `{"name":"team/app","reference":"dev"}`},
		{registry.ImageUpdated, `{"name":"other/app","reference":"v1"}`},
		{registry.ImageUpdated, `{"name":"team/app","reference":"` + string(one) + `"}`},
		{registry.ImageDeleted, `{"name":"team/app","reference":"v1"}`},
		{registry.RepositoryCreated, `{"name":"team/app"}`},
	} {
		if code := w.tell(event(noticeSecret, clock(), ignored.kind, ignored.body)); code != http.StatusNoContent {
			t.Errorf("%+v: %d", ignored, code)
		}
	}
	w.told(t, "team/app", "v1")
	w.comes(t, "hq/team/app", "v1", one)
	w.linked(t, "hq/team/app", registry.SHA256.FromString("one"))
	two, _ := up.image(t, "team/app", "v1", []byte("two"))
	for range 5 { // each event comes at least once
		w.told(t, "team/app", "v1")
	}
	w.comes(t, "hq/team/app", "v1", two)
	w.wantTags(t, "told of", "hq/team/app", "v1")
	for _, never := range []string{"GET /v2/_catalog", "GET /v2/team/app/tags/", "HEAD /v2/other/", "GET /v2/other/", "HEAD /v2/team/app/manifests/dev", "GET /v2/team/app/manifests/dev"} {
		if n := up.asked(never); n != 0 {
			t.Errorf("%d requests %s", n, never)
		}
	}
}

// TestNoticesOfNobody: what is not signed by the secret of a rule, now, has nothing
// copied and nobody asked.
func TestNoticesOfNobody(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1", []byte("one"))
	other := newHostile(t)
	quiet := at(t, other.URL)
	w := open(t, telling(t, up), quiet)
	body := `{"name":"a","reference":"v1"}`
	good := func() *http.Request { return event(noticeSecret, clock(), registry.ImageUpdated, body) }
	change := func(f func(r *http.Request)) *http.Request {
		r := good()
		f(r)
		return r
	}
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"no signature":   {change(func(r *http.Request) { r.Header.Del("Webhook-Signature") }), 401},
		"another secret": {event("another secret, also long", clock(), registry.ImageUpdated, body), 401},
		"no secret":      {event("", clock(), registry.ImageUpdated, body), 401},
		"another body":   {change(func(r *http.Request) { r.Body = http.NoBody }), 401},
		"another id":     {change(func(r *http.Request) { r.Header.Set("Webhook-Id", "other") }), 401},
		"old":            {event(noticeSecret, clock().Add(-6*time.Minute), registry.ImageUpdated, body), 401},
		"of the future":  {event(noticeSecret, clock().Add(6*time.Minute), registry.ImageUpdated, body), 401},
		"no time":        {change(func(r *http.Request) { r.Header.Set("Webhook-Timestamp", "now") }), 401},
		"another kind": {change(func(r *http.Request) {
			r.Header.Set("Webhook-Signature", strings.Replace(r.Header.Get("Webhook-Signature"), "v1,", "v2,", 1))
		}), 401},
		"a part of it":     {change(func(r *http.Request) { r.Header.Set("Webhook-Signature", "v1,AAAA v1,") }), 401},
		"GET":              {change(func(r *http.Request) { r.Method = http.MethodGet }), 405},
		"too large":        {event(noticeSecret, clock(), registry.ImageUpdated, `{"name":"a","reference":"v1","manifest":"`+strings.Repeat("x", 7<<20)+`"}`), 413},
		"no JSON":          {event(noticeSecret, clock(), registry.ImageUpdated, "name=a"), 400},
		"no repository":    {event(noticeSecret, clock(), registry.ImageUpdated, `{"name":"../a","reference":"v1"}`), 400},
		"no name":          {event(noticeSecret, clock(), registry.ImageUpdated, `{}`), 400},
		"several, one bad": {change(func(r *http.Request) { r.Header.Set("Webhook-Signature", "v1,AAAA v1a,BBBB") }), 401},
	} {
		if code := w.tell(c.r); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	if n := up.asked("") + other.asked(""); n != 0 {
		t.Errorf("%d requests upstream", n)
	}
	rotated := change(func(r *http.Request) { r.Header.Set("Webhook-Signature", "v1,AAAA "+r.Header.Get("Webhook-Signature")) })
	if code := w.tell(rotated); code != http.StatusNoContent {
		t.Errorf("a good signature behind another one: %d", code)
	}
	w.linked(t, "a", registry.SHA256.FromString("one"))
	if n := other.asked(""); n != 0 {
		t.Errorf("%d requests to the upstream of a rule that takes no notices", n)
	}
}

// TestNoticesBesideSlowOnes: who sends large events slowly, signed by nobody, holds up
// other large ones only.
func TestNoticesBesideSlowOnes(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1", []byte("one"))
	w := open(t, telling(t, up))
	h := w.Notices()
	post := func(r *http.Request) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	var slow sync.WaitGroup
	var pipes []*io.PipeWriter
	for range 4 {
		r, pipe := io.Pipe()
		pipes = append(pipes, pipe)
		slow.Go(func() { post(httptest.NewRequest(http.MethodPost, "/", r)) })
		if _, err := pipe.Write(make([]byte, 64<<10+1)); err != nil { // its last byte is read by who has a place
			t.Fatal(err)
		}
	}
	body := `{"name":"a","reference":"v1"}`
	if code := post(event(noticeSecret, clock(), registry.ImageUpdated, body)); code != http.StatusNoContent {
		t.Errorf("a small event: %d", code)
	}
	large := event(noticeSecret, clock(), registry.ImageUpdated, body+strings.Repeat(" ", 64<<10))
	if code := post(large); code != http.StatusServiceUnavailable {
		t.Errorf("a fifth large one: %d", code)
	}
	for _, pipe := range pipes {
		pipe.Close()
	}
	slow.Wait()
	large = event(noticeSecret, clock(), registry.ImageUpdated, body+strings.Repeat(" ", 64<<10))
	if code := post(large); code != http.StatusNoContent {
		t.Errorf("a large one when they have ended: %d", code)
	}
}

// TestNoticesLast: what was told of is not lost when the upstream fails, nor when the
// process ends; a paused rule waits with it; and a repository that somebody pushed to is
// left alone.
func TestNoticesLast(t *testing.T) {
	up := newHostile(t)
	one, _ := up.image(t, "a", "v1", []byte("one"))
	fails := func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true }
	up.set(func() { up.answer = fails })
	w := open(t, telling(t, up))
	ctx := t.Context()
	w.told(t, "a", "v1")
	waitFor(t, "the upstream is asked", func() bool { return up.asked("") > 0 })
	w.close()
	up.set(func() { up.answer = nil })
	w.later.Add(int64(time.Hour)) // it is tried again by then
	w.start(t, telling(t, up))
	w.comes(t, "a", "v1", one)

	name := w.Names()[0]
	if err := w.Pause(ctx, name, true); err != nil {
		t.Fatal(err)
	}
	two, _ := up.image(t, "a", "v1", []byte("two"))
	before := up.asked("HEAD /v2/a/manifests/v1") // each copy begins with one
	w.told(t, "a", "v1")
	if err := w.WorkNotices(ctx); err != nil || up.asked("HEAD /v2/a/manifests/v1") != before {
		t.Errorf("a paused rule: %v, %d requests", err, up.asked("HEAD /v2/a/manifests/v1")-before)
	}
	if err := w.Pause(ctx, name, false); err != nil {
		t.Fatal(err)
	}
	w.comes(t, "a", "v1", two)

	if err := w.Claim(ctx, nobody, "a"); err != nil {
		t.Fatal(err)
	}
	up.image(t, "a", "v2", []byte("three"))
	w.told(t, "a", "v2")
	if err := w.WorkNotices(ctx); err != nil || up.asked("HEAD /v2/a/manifests/v2") != 0 {
		t.Errorf("a repository that was pushed to: %v, %d requests", err, up.asked("HEAD /v2/a/manifests/v2"))
	}
	if _, err := w.catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: tag("v2")}); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("its new tag: %v", err)
	}
}
