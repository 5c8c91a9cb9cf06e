package rest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestS141Parameters: what a list is filtered and ordered by is a list of names, at
// every path. Whatever else is asked for is refused, and not looked up in a table.
func TestS141Parameters(t *testing.T) {
	base := newWorld(t).serve(t)
	const digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	path := strings.NewReplacer("{repository}", "a/b", "{tag}", "latest", "{digest}", digest, "{reference}", "latest", "{id}", "1")
	paths := 0
	for template, methods := range documented() {
		if _, ok := methods["get"]; !ok {
			continue
		}
		paths++
		for _, query := range []string{
			"q=password%3D~a", "sort=secret", "sort=-password", "order=1;DROP", "order_by=1", "filter=secret", "fields=secret", "where=1%3D1",
			"group_by=x", "columns=*", "select=*", "actor=root", "actor.id=root", "page.after=a", "repository=a", "pool=x", "locator=x", "after[$gt]=", "limit[]=1", "__proto__=x",
		} {
			if query == "repository=a" && slices.Contains([]string{Base + "/deleted", Base + "/events", Base + "/mirrors/forwards"}, template) {
				continue // a list of all repositories, or of one
			}
			// A name in the query that the path has as well must not win either.
			if got := ask(t, http.MethodGet, base+strings.TrimPrefix(path.Replace(template), Base)+"?"+query); got.status != http.StatusBadRequest {
				t.Errorf("GET %s?%s: got %d %s", template, query, got.status, got.body)
			}
		}
	}
	if paths < 5 {
		t.Errorf("void: only %d paths", paths)
	}
}
