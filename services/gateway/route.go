package gateway

import (
	"net/url"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// resource is what a path names.
type resource uint8

const (
	noResource resource = iota
	rootPage
	livez
	readyz
	startupz
	metricsPage  // where Config.Metrics says
	restAPI      // /api/v1 and all below it
	identityPath // /zot/auth/ and all below it
	apiBase      // /v2/
	catalog      // /v2/_catalog
	discover     // /v2/_oci/ext/discover
	mgmt         // /v2/_zot/ext/mgmt
	cosignKeys   // /v2/_zot/ext/cosign
	notaryCerts  // /v2/_zot/ext/notation
	searchAPI    // /v2/_zot/ext/search
	userPrefs    // /v2/_zot/ext/userprefs
	tagList      // /v2/<name>/tags/list
	manifest     // /v2/<name>/manifests/<reference>
	blob         // /v2/<name>/blobs/<digest>
	uploads      // /v2/<name>/blobs/uploads/
	upload       // /v2/<name>/blobs/uploads/<id>
	referrers    // /v2/<name>/referrers/<digest>
	nResources   = iota
)

// route is a parsed path. Only the fields that its resource has are set.
type route struct {
	resource resource
	repo     registry.Name
	ref      registry.Reference // manifest; Digest only: blob, referrers
	id       registry.UploadID
}

// parsePath reads the escaped path of a request. It returns as much of the
// route as is known together with an error, so that the log can tell what was
// meant. Repository names may hold components such as "blobs" or "tags", so a
// path is read from its end.
func parsePath(path string) (route, error) {
	switch path {
	case "/":
		return route{resource: rootPage}, nil
	case "/v2", "/v2/":
		return route{resource: apiBase}, nil
	case "/livez":
		return route{resource: livez}, nil
	case "/readyz":
		return route{resource: readyz}, nil
	case "/startupz":
		return route{resource: startupz}, nil
	case "/v2/_catalog":
		return route{resource: catalog}, nil
	case "/v2/_oci/ext/discover":
		return route{resource: discover}, nil
	case "/v2/_zot/ext/mgmt":
		return route{resource: mgmt}, nil
	case "/v2/_zot/ext/cosign":
		return route{resource: cosignKeys}, nil
	case "/v2/_zot/ext/notation":
		return route{resource: notaryCerts}, nil
	case "/v2/_zot/ext/search":
		return route{resource: searchAPI}, nil
	case "/v2/_zot/ext/userprefs":
		return route{resource: userPrefs}, nil
	}
	if strings.HasPrefix(path, "/api/v1/") {
		return route{resource: restAPI}, nil
	}
	if strings.HasPrefix(path, "/zot/auth/") {
		return route{resource: identityPath}, nil
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return route{}, registry.ErrEndpointUnknown
	}
	rest, last := cutLast(rest)
	rest, collection := cutLast(rest)
	switch {
	case collection == "tags" && last == "list":
		return named(tagList, rest)
	case collection == "manifests":
		return referenced(manifest, rest, last)
	case collection == "referrers":
		return referenced(referrers, rest, last)
	case collection == "blobs" && last == "uploads":
		return named(uploads, rest)
	case collection == "blobs":
		return referenced(blob, rest, last)
	case collection == "uploads":
		repo, ok := strings.CutSuffix(rest, "/blobs")
		if !ok {
			return route{}, registry.ErrEndpointUnknown
		}
		if last == "" {
			return named(uploads, repo)
		}
		rt, err := named(upload, repo)
		if err != nil {
			return rt, err
		}
		rt.id, err = registry.ParseUploadID(last)
		return rt, err
	}
	return route{}, registry.ErrEndpointUnknown
}

// cutLast cuts path before its last component.
func cutLast(path string) (rest, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

func named(res resource, repo string) (route, error) {
	name, err := registry.ParseName(repo)
	return route{resource: res, repo: name}, err
}

// referenced parses what ends in a tag or digest, in which clients may escape
// the colon. Nothing else in a legal path needs escapes.
func referenced(res resource, repo, ref string) (route, error) {
	rt, err := named(res, repo)
	if err != nil {
		return rt, err
	}
	if strings.IndexByte(ref, '%') >= 0 {
		if ref, err = url.PathUnescape(ref); err != nil {
			return rt, registry.ErrDigestInvalid.With("the path has a malformed escape")
		}
	}
	if res == manifest {
		rt.ref, err = registry.ParseReference(ref)
		return rt, err
	}
	rt.ref.Digest, err = registry.ParseDigest(ref)
	return rt, err
}
