package syncer_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

// TestNames: which upstream repository a local name stands for, as zot maps them.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		content syncer.Content
		local   registry.Name
		remote  string // "" if the rule does not cover it
	}{
		{syncer.Content{Prefix: "**"}, "a/b", "a/b"},
		{syncer.Content{Prefix: "library/**"}, "library/nginx", "library/nginx"},
		{syncer.Content{Prefix: "/library/**"}, "library/nginx", "library/nginx"},
		{syncer.Content{Prefix: "library/**"}, "other/nginx", ""},
		{syncer.Content{Prefix: "library/*"}, "library/a/b", ""},
		{syncer.Content{Prefix: "library/nginx"}, "library/nginx", "library/nginx"},
		{syncer.Content{Prefix: "library/nginx"}, "library/nginx2", ""},
		{syncer.Content{Prefix: "**", Destination: "/hub"}, "hub/a/b", "a/b"},
		{syncer.Content{Prefix: "**", Destination: "/hub"}, "a/b", ""},
		{syncer.Content{Prefix: "**", Destination: "/hub"}, "hubs/a", ""},
		{syncer.Content{Prefix: "team/**", Destination: "/hq", StripPrefix: true}, "hq/app", "team/app"},
		{syncer.Content{Prefix: "team/**", Destination: "/", StripPrefix: true}, "app/x", "team/app/x"},
		{syncer.Content{Prefix: "team/app", Destination: "/hq", StripPrefix: true}, "hq", "team/app"},
		{syncer.Content{Prefix: "team/app", Destination: "/hq", StripPrefix: true}, "hq/x", ""},
	} {
		up := newHostile(t)
		r := at(t, up.URL, c.content)
		r.Host = "registry.example.com"
		w := open(t, r)
		d, _ := up.image(t, c.remote, "v1")
		res, err := w.Resolve(t.Context(), nobody, c.local, tag("v1"), "")
		if (err == nil) != (c.remote != "") || err == nil && res.Digest != d {
			t.Errorf("%+v: %s: %v, %v; want %q", c.content, c.local, res, err, c.remote)
		}
	}
}

// TestHostInPath: names that begin with the name of an upstream are that one's alone.
func TestHostInPath(t *testing.T) {
	hub, other := newHostile(t), newHostile(t)
	a := at(t, hub.URL)
	a.Host = "docker.io"
	b := at(t, other.URL)
	b.Host = "ghcr.io"
	hub.image(t, "library/nginx", "v1")
	other.image(t, "kubernetes/kubectl", "v1")
	w := open(t, a, b)
	for _, name := range []registry.Name{"docker.io/library/nginx", "docker.io/nginx", "registry-1.docker.io/nginx", "nginx", "ghcr.io/kubernetes/kubectl", "kubernetes/kubectl"} {
		if _, err := w.Resolve(t.Context(), nobody, name, tag("v1"), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := hub.asked("GET /v2/ghcr.io/"); n != 0 {
		t.Errorf("%d requests to Docker Hub for what is said to be elsewhere", n)
	}
}

// TestHubPatterns: Docker Hub's own images are found without library/, too, when a rule
// selects by a pattern that a name without it matches as well: nothing there has one part.
func TestHubPatterns(t *testing.T) {
	hub := newHostile(t)
	hub.image(t, "library/nginx", "v1")
	for _, c := range []struct {
		content syncer.Content
		name    registry.Name
		want    bool
	}{
		{syncer.Content{Prefix: "*"}, "nginx", true},
		{syncer.Content{Prefix: "**"}, "nginx", true},
		{syncer.Content{Prefix: "library/**"}, "nginx", true},
		{syncer.Content{Prefix: "**", Destination: "/hub"}, "hub/nginx", true},
		{syncer.Content{Prefix: "**", Destination: "/hub"}, "hub/library/nginx", true},
		{syncer.Content{Prefix: "library/**", Destination: "/hub"}, "hub/nginx", true},
		{syncer.Content{Prefix: "library/**", Destination: "/hub", StripPrefix: true}, "hub/nginx", true},
		{syncer.Content{Prefix: "other/**"}, "nginx", false},
	} {
		r := at(t, hub.URL, c.content)
		r.Host = "docker.io"
		if _, err := open(t, r).Resolve(t.Context(), nobody, c.name, tag("v1"), ""); (err == nil) != c.want {
			t.Errorf("%+v: %s: %v", c.content, c.name, err)
		}
	}
}

// TestS069Route: the look-up of other registries is closed.
func TestS069Route(t *testing.T) {
	up := newHostile(t)
	hub := at(t, up.URL, syncer.Content{Prefix: "library/**"})
	hub.Host = "docker.io"
	other := at(t, up.URL, syncer.Content{Prefix: "**"})
	other.Host = "ghcr.io"
	w := open(t, hub, other)
	for _, c := range []struct {
		ns   string
		repo registry.Name
		want registry.Name
	}{
		{"docker.io", "library/nginx", "library/nginx"},
		{"docker.io", "nginx", "library/nginx"},
		{"registry-1.docker.io", "library/nginx", "library/nginx"},
		{"index.docker.io:443", "library/nginx", "library/nginx"},
		{"DOCKER.IO", "library/nginx", "library/nginx"},
		{"docker.io", "other/x", ""},
		{"ghcr.io", "a/b", "a/b"},
		{"ghcr.io", "library/nginx", "ghcr.io/library/nginx"}, // the plain name is Docker Hub's
		{"quay.io", "a/b", ""},
		{"169.254.169.254", "a/b", ""},
		{"user@evil", "a/b", ""},
		{"../..", "a/b", ""},
		{string(bytes.Repeat([]byte("a"), 300)), "a/b", ""},
	} {
		got, err := w.Route(t.Context(), c.ns, c.repo)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("Route(%.40q, %q) = %q, %v; want %q", c.ns, c.repo, got, err, c.want)
		}
	}
	if n := up.asked(""); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestS096Ports: who says which of two registries on one host is meant does not get what the
// other one has of that name, which the name in the path can't tell from it.
func TestS096Ports(t *testing.T) {
	up := newHostile(t)
	open2 := func(first, second []syncer.Content) *world {
		a, b := at(t, up.URL, first...), at(t, up.URL, second...)
		a.Host, b.Host = "registry.example.com:5001", "registry.example.com:5002"
		return open(t, a, b)
	}
	all := []syncer.Content{{Prefix: "**"}}
	for _, c := range []struct {
		first, second []syncer.Content
		ns            string
		want          registry.Name
	}{
		{nil, nil, "registry.example.com:5001", "a"},
		{nil, nil, "registry.example.com:5002", ""},
		{all, all, "registry.example.com:5002", ""},
		{all, []syncer.Content{{Prefix: "**", Destination: "/two"}}, "registry.example.com:5002", ""},
		{[]syncer.Content{{Prefix: "**", Destination: "/one"}}, []syncer.Content{{Prefix: "**", Destination: "/two"}}, "registry.example.com:5002", "two/a"},
		{[]syncer.Content{{Prefix: "b"}}, all, "registry.example.com:5002", "a"},
	} {
		got, err := open2(c.first, c.second).Route(t.Context(), c.ns, "a")
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%+v, %+v: Route(%q, a) = %q, %v; want %q", c.first, c.second, c.ns, got, err, c.want)
		}
	}
}
