package gateway

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/google/go-cmp/cmp"
)

const (
	digestA = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	idA     = "01890a5d-ac96-774b-bcce-b302099a8057"
)

func TestParsePath(t *testing.T) {
	tag := func(s string) registry.Reference { return registry.Reference{Tag: registry.Tag(s)} }
	dig := registry.Reference{Digest: digestA}
	tests := map[string]struct {
		want route
		err  error
	}{
		"/":                     {want: route{resource: rootPage}},
		"/v2":                   {want: route{resource: apiBase}},
		"/v2/":                  {want: route{resource: apiBase}},
		"/readyz":               {want: route{resource: readyz}},
		"/v2/_catalog":          {want: route{resource: catalog}},
		"/v2/_catalog/":         {err: registry.ErrEndpointUnknown},
		"/v2/_oci/ext/discover": {want: route{resource: discover}},

		"/v2/a/tags/list":               {want: route{resource: tagList, repo: "a"}},
		"/v2/a/b/c/tags/list":           {want: route{resource: tagList, repo: "a/b/c"}},
		"/v2/tags/list/tags/list":       {want: route{resource: tagList, repo: "tags/list"}},
		"/v2/tags/list":                 {want: route{resource: tagList}, err: registry.ErrNameInvalid},
		"/v2/a/manifests/latest":        {want: route{resource: manifest, repo: "a", ref: tag("latest")}},
		"/v2/a/manifests/" + digestA:    {want: route{resource: manifest, repo: "a", ref: dig}},
		"/v2/a/tags/manifests/list":     {want: route{resource: manifest, repo: "a/tags", ref: tag("list")}},
		"/v2/manifests/manifests/blobs": {want: route{resource: manifest, repo: "manifests", ref: tag("blobs")}},
		"/v2/a/manifests/" + strings.Replace(digestA, ":", "%3A", 1): {want: route{resource: manifest, repo: "a", ref: dig}},
		"/v2/a/manifests/%zz":                            {want: route{resource: manifest, repo: "a"}, err: registry.ErrDigestInvalid},
		"/v2/a/manifests/a%2Fb":                          {want: route{resource: manifest, repo: "a"}, err: registry.ErrTagInvalid},
		"/v2/a/manifests/sha256:xyz":                     {want: route{resource: manifest, repo: "a"}, err: registry.ErrDigestInvalid},
		"/v2/a/blobs/" + digestA:                         {want: route{resource: blob, repo: "a", ref: dig}},
		"/v2/a/blobs/latest":                             {want: route{resource: blob, repo: "a"}, err: registry.ErrDigestInvalid},
		"/v2/a/blobs/uploads":                            {want: route{resource: uploads, repo: "a"}},
		"/v2/a/blobs/uploads/":                           {want: route{resource: uploads, repo: "a"}},
		"/v2/blobs/uploads/blobs/uploads/":               {want: route{resource: uploads, repo: "blobs/uploads"}},
		"/v2/a/blobs/uploads/" + idA:                     {want: route{resource: upload, repo: "a", id: idA}},
		"/v2/a/blobs/uploads/" + idA + "/":               {err: registry.ErrEndpointUnknown},
		"/v2/a/blobs/uploads/x":                          {want: route{resource: upload, repo: "a"}, err: registry.ErrUploadUnknown},
		"/v2/a/uploads/x":                                {err: registry.ErrEndpointUnknown},
		"/v2/a/blobs/uploads/blobs/" + digestA:           {want: route{resource: blob, repo: "a/blobs/uploads", ref: dig}},
		"/v2/a/referrers/" + digestA:                     {want: route{resource: referrers, repo: "a", ref: dig}},
		"/v2/a/referrers/tag":                            {want: route{resource: referrers, repo: "a"}, err: registry.ErrDigestInvalid},
		"/v2/a//manifests/x":                             {want: route{resource: manifest}, err: registry.ErrNameInvalid},
		"/v2/../etc/manifests/x":                         {want: route{resource: manifest}, err: registry.ErrNameInvalid},
		"/v2/a%2f..%2fb/manifests/x":                     {want: route{resource: manifest}, err: registry.ErrNameInvalid},
		"/v2/" + strings.Repeat("a", 256) + "/tags/list": {want: route{resource: tagList}, err: registry.ErrNameInvalid},
		"/v3/":       {err: registry.ErrEndpointUnknown},
		"":           {err: registry.ErrEndpointUnknown},
		"*":          {err: registry.ErrEndpointUnknown},
		"/v2/x":      {err: registry.ErrEndpointUnknown},
		"/v2/_zot/x": {err: registry.ErrEndpointUnknown},
	}
	for path, test := range tests {
		got, err := parsePath(path)
		if test.err == nil != (err == nil) || err != nil && !errors.Is(err, test.err) {
			t.Errorf("%s: got error %v, want %v", path, err, test.err)
		}
		if diff := cmp.Diff(got, test.want, cmp.AllowUnexported(route{})); diff != "" && (err == nil || got.repo != test.want.repo || got.resource != test.want.resource) {
			t.Errorf("%s: got, want:\n%s", path, diff)
		}
	}
}

// FuzzRoute checks that what the parser lets through can be written as a path
// again and means the same, so no two readings of a path exist.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"/", "/v2/", "/v2/a/b/tags/list", "/v2/a/manifests/x", "/v2/a/blobs/" + digestA, "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/" + idA, "/v2/a/referrers/" + digestA, "/v2/a/manifests/sha256%3a44", "/v2/%2e%2e/manifests/x", "/v2/tags/list/tags/list", "/v2//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rt, err := parsePath(path)
		if err != nil {
			return
		}
		var again string
		repo := "/v2/" + string(rt.repo)
		switch rt.resource {
		case tagList:
			again = repo + "/tags/list"
		case manifest:
			again = repo + "/manifests/" + rt.ref.String()
		case blob:
			again = repo + "/blobs/" + rt.ref.String()
		case referrers:
			again = repo + "/referrers/" + rt.ref.String()
		case uploads:
			again = repo + "/blobs/uploads/"
		case upload:
			again = repo + "/blobs/uploads/" + string(rt.id)
		case noResource:
			t.Fatalf("%q: no error and no resource", path)
		default:
			return
		}
		if _, err := registry.ParseName(string(rt.repo)); err != nil {
			t.Fatalf("%q: let through the name %q", path, rt.repo)
		}
		if rt2, err := parsePath(again); err != nil || rt2 != rt {
			t.Fatalf("%q: %+v, but %q: %+v, %v", path, rt, again, rt2, err)
		}
	})
}
