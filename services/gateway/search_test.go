package gateway

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/services/gateway/search"
)

// TestSearch asks with GET and POST, for browsers of other origins too, and marks
// repositories.
func TestSearch(t *testing.T) {
	w := matrixWorld(t)
	at := w.serve(t)
	pushImage(t, at, "a/secret", "t", "X-Test: owner")
	query := `{StarredRepos{Results{Name}} BookmarkedRepos{Results{Name}}}`
	ask := func() string {
		t.Helper()
		got := do(t, "GET", at+"/v2/_zot/ext/search?query="+url.QueryEscape(query), nil, "X-Test: owner", "Origin: https://elsewhere.test").want(t, 200)
		if got.header.Get("Content-Type") != "application/json" || got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Cache-Control") == "" {
			t.Errorf("headers: %v", got.header)
		}
		posted := do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader(`{"query":"`+query+`"}`), "X-Test: owner", "Origin: https://elsewhere.test").want(t, 200)
		if posted.body != got.body || posted.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("POST: %s, and GET: %s", posted.body, got.body)
		}
		return strings.TrimSpace(got.body)
	}
	for _, x := range []struct{ action, want string }{
		{"", `{"data":{"StarredRepos":{"Results":[]},"BookmarkedRepos":{"Results":[]}}}`},
		{"toggleStar", `{"data":{"StarredRepos":{"Results":[{"Name":"a/secret"}]},"BookmarkedRepos":{"Results":[]}}}`},
		{"toggleBookmark", `{"data":{"StarredRepos":{"Results":[{"Name":"a/secret"}]},"BookmarkedRepos":{"Results":[{"Name":"a/secret"}]}}}`},
		{"toggleStar", `{"data":{"StarredRepos":{"Results":[]},"BookmarkedRepos":{"Results":[{"Name":"a/secret"}]}}}`},
	} {
		if x.action != "" {
			do(t, "PUT", at+"/v2/_zot/ext/userprefs?action="+x.action+"&repo=a/secret", nil, "X-Test: owner").want(t, 200)
		}
		if got := ask(); got != x.want {
			t.Errorf("after %q: %s, want %s", x.action, got, x.want)
		}
	}
	for path, status := range map[string]int{
		"action=toggleStar&repo=a/none":   404,
		"action=toggleStar&repo=b/secret": 403,
		"action=toggleStar&repo=A":        400,
		"action=toggleStar":               400,
		"action=star&repo=a/secret":       400,
		"":                                400,
	} {
		do(t, "PUT", at+"/v2/_zot/ext/userprefs?"+path, nil, "X-Test: owner").want(t, status)
	}
	do(t, "OPTIONS", at+"/v2/_zot/ext/search", nil).want(t, 204)
	if got := do(t, "OPTIONS", at+"/v2/_zot/ext/userprefs", nil).want(t, 204); got.header.Get("Access-Control-Allow-Methods") != "PUT, OPTIONS" {
		t.Errorf("OPTIONS: %v", got.header)
	}
	do(t, "GET", at+"/v2/_zot/ext/search?query=%7B", nil, "X-Test: owner").want(t, 400)
	do(t, "GET", at+"/v2/_zot/ext/search?query=%7Bx%7D", nil, "X-Test: owner").want(t, 422)
	do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader(strings.Repeat("x", 1<<20)), "X-Test: owner").want(t, 400)
	if got := do(t, "GET", at+"/v2/_oci/ext/discover", nil, "X-Test: owner").want(t, 200); !strings.Contains(got.body, `"/v2/_zot/ext/search"`) {
		t.Errorf("discover: %s", got.body)
	}
}

// Without search there is no such path, and it is not listed.
func TestNoSearch(t *testing.T) {
	w := newWorld()
	at := w.serve(t)
	if got := do(t, "GET", at+"/v2/_zot/ext/search?query=%7B__typename%7D", nil).want(t, 404); !strings.Contains(got.body, "extensions.search") {
		t.Errorf("an answer that doesn't say what to do: %s", got.body)
	}
	do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader("{}")).want(t, 404)
	if got := do(t, "GET", at+"/v2/_oci/ext/discover", nil).want(t, 200); strings.Contains(got.body, `"/v2/_zot/ext/search"`) {
		t.Errorf("discover: %s", got.body)
	}
}

// A program without search says so, instead of serving less than the file asks for.
func TestSearchIsRefusedWhereThereIsNone(t *testing.T) {
	if _, err := newSearch(Deps{}, nil, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "extensions.search") {
		t.Errorf("got error %v", err)
	}
	if h, err := newSearch(Deps{NewSearch: search.Open, Catalog: newWorld().deps.Catalog}, nil, nil, slog.New(slog.DiscardHandler)); err != nil || h == nil {
		t.Errorf("got %v, %v", h, err)
	}
}
