package registrytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// S-029: what somebody may not read is neither found nor counted.
func testSearchPermissions(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{Access: tenants(t)})
	x := shelved{1, "linux/amd64", []string{"rootfs"}, nil}
	for _, repo := range []registry.Name{"a/1", "a/2", "b/1", "commons/x", "z"} {
		s.push(t, repo, x, "t")
	}
	s.settle(t)
	for _, who := range []struct {
		name string
		a    registry.Actor
		want []string
	}{
		{"nobody", nobody, []string{"commons/x"}},
		{"anna", anna, []string{"a/1", "a/2", "commons/x"}},
		{"bert", bert, []string{"b/1", "commons/x"}},
		{"alice", alice, []string{"a/1", "a/2", "b/1", "commons/x", "z"}},
		{"a token", registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "z", Actions: registry.ActRead}, {Repositories: "a/*", Actions: registry.ActList}}}, []string{"z"}},
		{"a token for nothing", registry.Actor{ID: "alice", Scope: []registry.Grant{}}, []string{}},
	} {
		want := []string{}
		for _, r := range who.want {
			want = append(want, r+":t")
		}
		for _, q := range []registry.ImageQuery{{}, {TagPart: "T"}, {Content: sha256of([]byte("rootfs")).String()}, {DerivedFrom: digestsOf("rootfs")}, {BaseOf: digestsOf("rootfs")}} {
			for _, limit := range []int{1, 100} {
				if diff := cmp.Diff(want, s.find(t, who.a, limit, q)); diff != "" {
					t.Errorf("%s finds by %+v: -want +got\n%s", who.name, q, diff)
				}
			}
		}
		for _, repo := range []string{"a/1", "b/1", "commons/x", "z"} {
			got := s.find(t, who.a, 10, registry.ImageQuery{Repository: registry.Name(repo)})
			byDigest := s.find(t, who.a, 10, registry.ImageQuery{Repository: registry.Name(repo), Ref: registry.Reference{Digest: sha256of(s.build(t, "commons/x", x))}})
			if may := slices.Contains(who.want, repo); (len(got) == 1) != may || (len(byDigest) == 1) != may {
				t.Errorf("%s finds %q and %q in %s", who.name, got, byDigest, repo)
			}
		}
		found, err := s.SearchRepositories(t.Context(), who.a, registry.RepositoryQuery{Limit: 100})
		must(t, "SearchRepositories", err)
		got := []string{}
		for _, r := range found.Items {
			got = append(got, string(r.Name))
		}
		if diff := cmp.Diff(who.want, got); diff != "" || found.Total != len(got) {
			t.Errorf("%s sees %d repositories: -want +got\n%s", who.name, found.Total, diff)
		}
	}
	images, err := s.SearchImages(t.Context(), anna, registry.ImageQuery{Limit: 10})
	must(t, "SearchImages", err)
	for _, i := range images.Items {
		if i.Deletable != strings.HasPrefix(string(i.Repository), "a/") {
			t.Errorf("anna may delete of %s: %v", i.Repository, i.Deletable)
		}
	}
	if _, err := s.TogglePreference(t.Context(), anna, "b/1", registry.Starred); err == nil {
		t.Error("anna stars what she may not read")
	} else {
		wantErr(t, "TogglePreference", err, registry.ErrDenied)
	}
}

// Changes are found at once, and what configs say of them in a moment.
func testPreferences(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	x := shelved{1, "linux/amd64", []string{"l"}, nil}
	s.push(t, "a", x, "t")
	s.push(t, "b", x, "t")
	toggle := func(a registry.Actor, repo registry.Name, p registry.Preference, want bool) {
		t.Helper()
		on, err := s.TogglePreference(t.Context(), a, repo, p)
		must(t, "TogglePreference", err)
		if on != want {
			t.Errorf("%s of %s is %v, want %v", a.ID, repo, on, want)
		}
	}
	toggle(anna, "b", registry.Starred, true)
	toggle(bert, "b", registry.Starred, true)
	toggle(anna, "a", registry.Starred, true)
	toggle(anna, "a", registry.Starred, false)
	toggle(anna, "a", registry.Bookmarked, true)
	check := func() {
		t.Helper()
		for _, x := range []struct {
			a                   registry.Actor
			starred, bookmarked []bool
		}{{anna, []bool{false, true}, []bool{true, false}}, {bert, []bool{false, true}, []bool{false, false}}, {nobody, []bool{false, false}, []bool{false, false}}} {
			found, err := s.SearchRepositories(t.Context(), x.a, registry.RepositoryQuery{Limit: 10})
			must(t, "SearchRepositories", err)
			if len(found.Items) != 2 {
				t.Fatalf("found %+v", found)
			}
			for i, r := range found.Items {
				if r.Stars != int64(2*i) || r.Starred != x.starred[i] || r.Bookmarked != x.bookmarked[i] {
					t.Errorf("%q sees %+v", x.a.ID, r)
				}
			}
		}
		for _, x := range []struct {
			f    registry.SearchFilter
			want []string
		}{
			{registry.SearchFilter{Starred: ref(true)}, []string{"b:t"}},
			{registry.SearchFilter{Starred: ref(false)}, []string{"a:t"}},
			{registry.SearchFilter{Bookmarked: ref(true)}, []string{"a:t"}},
			{registry.SearchFilter{Bookmarked: ref(true), Starred: ref(true)}, []string{}},
		} {
			if got := s.find(t, anna, 10, registry.ImageQuery{Filter: x.f}); !slices.Equal(got, x.want) {
				t.Errorf("anna finds %q, want %q", got, x.want)
			}
		}
		if got := s.find(t, bert, 10, registry.ImageQuery{Order: registry.ByStars}); !slices.Equal(got, []string{"b:t", "a:t"}) {
			t.Errorf("by stars: %q", got)
		}
	}
	check()
	if s.reopen(t) {
		check()
	}
	_, err := s.TogglePreference(t.Context(), nobody, "a", registry.Starred)
	wantErr(t, "nobody's star", err, registry.ErrUnauthorized)
	_, err = s.TogglePreference(t.Context(), anna, "c", registry.Starred)
	wantErr(t, "a star for nothing", err, registry.ErrNameUnknown)
	_, err = s.TogglePreference(t.Context(), anna, "a", 9)
	wantErr(t, "a way there is not", err, registry.ErrParameterInvalid)
}
