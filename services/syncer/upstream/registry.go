package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// accept lists the manifests we can store.
var accept = []string{strings.Join([]string{
	registry.TypeIndex, registry.TypeManifest, registry.TypeDockerList, registry.TypeDockerManifest,
}, ", ")}

// HeadManifest returns the digest that ref has upstream, "" if the host does not
// say.
func (h *Host) HeadManifest(ctx context.Context, repo string, ref registry.Reference) (registry.Digest, error) {
	resp, err := h.do(ctx, call{method: http.MethodHead, path: "/v2/" + repo + "/manifests/" + ref.String(), header: http.Header{"Accept": accept}, repo: repo})
	if err != nil {
		return "", err
	}
	drain(resp)
	d, err := registry.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return "", nil //nolint:nilerr // it just does not say
	}
	return d, nil
}

// Manifest returns the manifest ref. Its digest is that of its bytes, whatever the
// header says; if ref is a digest it is that one.
func (h *Host) Manifest(ctx context.Context, repo string, ref registry.Reference) (registry.Manifest, error) {
	resp, err := h.do(ctx, call{method: http.MethodGet, path: "/v2/" + repo + "/manifests/" + ref.String(), header: http.Header{"Accept": accept}, repo: repo})
	if err != nil {
		return registry.Manifest{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, registry.MaxManifest+1))
	if err != nil {
		h.Failed()
		return registry.Manifest{}, registry.ErrUnavailable.With("the upstream registry %s broke off", h.base.Host).Because(err)
	}
	d := ref.Digest
	if d == "" {
		d = registry.SHA256.FromBytes(b)
	} else if d.Algorithm().FromBytes(b) != d {
		return registry.Manifest{}, registry.ErrUnavailable.With("the upstream registry %s sends other content than %s", h.base.Host, d)
	}
	mediaType := resp.Header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	if _, err := registry.ParseManifest(mediaType, b); err != nil {
		return registry.Manifest{}, registry.ErrUnavailable.With("the upstream registry %s sends what is no manifest we can store (%s): %s", h.base.Host, short(mediaType), registry.AsError(err).Text())
	}
	return registry.Manifest{Digest: d, MediaType: mediaType, Size: int64(len(b)), Bytes: b}, nil
}

// short returns a text of the other side that may be shown.
func short(s string) string {
	return strconv.QuoteToASCII(s[:min(len(s), 100)])
}

// HeadBlob returns the size of a blob, -1 if the host does not say.
func (h *Host) HeadBlob(ctx context.Context, repo string, d registry.Digest) (int64, error) {
	resp, err := h.do(ctx, call{method: http.MethodHead, path: "/v2/" + repo + "/blobs/" + string(d), repo: repo})
	if err != nil {
		return 0, blobError(err)
	}
	drain(resp)
	return resp.ContentLength, nil
}

func blobError(err error) error {
	if errors.Is(err, registry.ErrManifestUnknown) {
		return registry.ErrBlobUnknown.With("%s", registry.AsError(err).Text())
	}
	return err
}

// Blob returns the bytes of a blob from offset on, and the size of the whole, -1 if
// the host does not say. The caller closes the body.
func (h *Host) Blob(ctx context.Context, repo string, d registry.Digest, offset int64) (io.ReadCloser, int64, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := h.do(ctx, call{method: http.MethodGet, path: "/v2/" + repo + "/blobs/" + string(d), header: header, repo: repo})
	if errors.Is(err, errRange) {
		return nil, 0, registry.ErrUnavailable.With("the upstream registry %s has fewer bytes than came before", h.base.Host).Because(ErrWrong)
	}
	if err != nil {
		return nil, 0, blobError(err)
	}
	if offset == 0 {
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return nil, 0, registry.ErrUnavailable.With("the upstream registry %s answers a request for a blob with status %d", h.base.Host, resp.StatusCode)
		}
		return resp.Body, resp.ContentLength, nil
	}
	if resp.StatusCode == http.StatusPartialContent {
		from, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || from != offset {
			resp.Body.Close()
			return nil, 0, registry.ErrUnavailable.With("the upstream registry %s sends another range than it was asked for", h.base.Host)
		}
		return resp.Body, size, nil
	}
	// A host that knows no ranges sends all of it again.
	return &skipping{resp.Body, offset}, resp.ContentLength, nil
}

// skipping drops the first bytes of a body. A read that got some of those returns
// none, so that its caller sees that they come.
type skipping struct {
	io.ReadCloser
	left int64
}

func (s *skipping) Read(p []byte) (int, error) {
	if s.left == 0 {
		return s.ReadCloser.Read(p)
	}
	n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// parseContentRange reads "bytes FROM-TO/SIZE"; size is -1 for "*".
func parseContentRange(s string) (from, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, total, hasTotal := strings.Cut(s, "/")
	first, _, hasFirst := strings.Cut(span, "-")
	if !ok || !hasTotal || !hasFirst {
		return 0, 0, false
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, 0, false
	}
	if total == "*" {
		return from, -1, true
	}
	size, err = strconv.ParseInt(total, 10, 64)
	return from, size, err == nil && size > from
}

const (
	// maxPages is how many pages of a list are read, maxList how many bytes of one, and
	// maxItems how many entries of all.
	maxPages = 10_000
	maxList  = 8 << 20
	maxItems = 500_000
	// pageSize is how many entries we ask for.
	pageSize = "1000"
)

// Tags calls f for each page of the tags of repo.
func (h *Host) Tags(ctx context.Context, repo string, f func([]string) error) error {
	return h.list(ctx, "/v2/"+repo+"/tags/list", repo, "tags", f)
}

// Repositories calls f for each page of the names of repositories.
func (h *Host) Repositories(ctx context.Context, f func([]string) error) error {
	return h.list(ctx, "/v2/_catalog", "", "repositories", f)
}

// list reads a list that comes in pages.
func (h *Host) list(ctx context.Context, path, repo, member string, f func([]string) error) error {
	total := 0
	return h.pages(ctx, call{method: http.MethodGet, path: path, query: "n=" + pageSize, repo: repo}, func(body io.Reader) error {
		var page map[string]json.RawMessage
		var items []string
		err := json.NewDecoder(body).Decode(&page)
		if err == nil && len(page[member]) > 0 {
			err = json.Unmarshal(page[member], &items)
		}
		if err != nil {
			return registry.ErrUnavailable.With("the upstream registry %s sends no list of %s", h.base.Host, member).Because(err)
		}
		if total += len(items); total > maxItems {
			return registry.ErrUnavailable.With("the upstream registry %s lists more than %d %s", h.base.Host, maxItems, member)
		}
		return f(items)
	})
}

// pages calls f for the answer to c, and to each page that it leads to. The next one is
// on the same host and was not read before.
func (h *Host) pages(ctx context.Context, c call, f func(body io.Reader) error) error {
	seen := make(map[string]bool)
	for range maxPages {
		if seen[c.query] {
			return registry.ErrUnavailable.With("the upstream registry %s sends the same page again", h.base.Host)
		}
		seen[c.query] = true
		resp, err := h.do(ctx, c)
		if err != nil {
			return err
		}
		err = f(io.LimitReader(resp.Body, maxList))
		drain(resp)
		if err != nil {
			return err
		}
		if c.query, err = h.nextPage(resp.Header.Get("Link"), c.path); err != nil || c.query == "" {
			return err
		}
	}
	return registry.ErrUnavailable.With("the upstream registry %s sends pages without end", h.base.Host)
}

// nextPage returns the query of a Link header with rel="next", which must lead to
// the same list (GHSA-h7vf-4x9w-h99v).
func (h *Host) nextPage(link, path string) (string, error) {
	if link == "" {
		return "", nil
	}
	target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
	if !ok || !strings.Contains(params, "next") {
		return "", nil
	}
	here := *h.base
	here.Path += path
	to, err := here.Parse(target)
	if err != nil || !sameOrigin(to, h.base) || to.Path != here.Path {
		return "", registry.ErrUnavailable.With("the upstream registry %s leads to a page of another list", h.base.Host)
	}
	return to.RawQuery, nil
}

// Referrers returns the manifests whose subject is d, of all pages of the list. A host that
// does not know the API has none.
func (h *Host) Referrers(ctx context.Context, repo string, d registry.Digest) ([]registry.Descriptor, error) {
	c := call{method: http.MethodGet, path: "/v2/" + repo + "/referrers/" + string(d), header: http.Header{"Accept": {registry.TypeIndex}}, repo: repo}
	var all []registry.Descriptor
	known := false // the API is
	err := h.pages(ctx, c, func(body io.Reader) error {
		known = true
		page, err := decodeIndex(body)
		if all = append(all, page...); len(all) > registry.MaxDescriptors {
			return registry.ErrUnavailable.With("the upstream registry sends too many referrers")
		}
		return err
	})
	switch {
	case errors.Is(err, registry.ErrManifestUnknown) && !known:
		return h.referrersTag(ctx, repo, d)
	case err != nil:
		return nil, err
	}
	return all, nil
}

// referrersTag reads the list that clients keep as a tag where the API is missing
// (distribution-spec, "Referrers Tag Schema").
func (h *Host) referrersTag(ctx context.Context, repo string, d registry.Digest) ([]registry.Descriptor, error) {
	m, err := h.Manifest(ctx, repo, registry.Reference{Tag: registry.Tag(strings.Replace(string(d), ":", "-", 1))})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeIndex(strings.NewReader(string(m.Bytes)))
}

func decodeIndex(r io.Reader) ([]registry.Descriptor, error) {
	var index struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if err := json.NewDecoder(r).Decode(&index); err != nil {
		return nil, registry.ErrUnavailable.With("the upstream registry sends no list of referrers").Because(err)
	}
	if len(index.Manifests) > registry.MaxDescriptors {
		return nil, registry.ErrUnavailable.With("the upstream registry sends too many referrers")
	}
	for _, m := range index.Manifests {
		if _, err := registry.ParseDigest(string(m.Digest)); err != nil {
			return nil, registry.ErrUnavailable.With("the upstream registry sends a malformed list of referrers").Because(err)
		}
	}
	return index.Manifests, nil
}

// Ping asks whether there is a registry.
func (h *Host) Ping(ctx context.Context) error {
	resp, err := h.do(ctx, call{method: http.MethodGet, path: "/v2/"})
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// HostOf returns the host and port of a URL as clients name the registry.
func HostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return Canonical(host)
}

// hub are the names of Docker Hub.
var hub = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true, "registry.hub.docker.com": true}

// Names returns the names that a registry has besides its canonical one.
func Names(canonical string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if canonical != "docker.io" {
			return
		}
		for name := range hub {
			if name != canonical && !yield(name) {
				return
			}
		}
	}
}

// Canonical returns the one name of a registry that has several.
func Canonical(host string) string {
	host = strings.ToLower(host)
	if h, ok := strings.CutSuffix(host, ":443"); ok {
		host = h
	}
	if hub[host] {
		return "docker.io"
	}
	return host
}

// Complete returns a repository's name as the registry has it: Docker Hub's own
// images lie in library/.
func Complete(host, repo string) string {
	if Canonical(host) == "docker.io" && !strings.Contains(repo, "/") {
		return "library/" + repo
	}
	return repo
}

// String returns the host for logs.
func (h *Host) String() string { return fmt.Sprintf("upstream %s", h.base.Host) }
