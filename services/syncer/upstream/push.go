package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Refusal is the error of a push that the registry will not take however often it is
// tried.
type Refusal struct {
	Host   string
	Status int
	Code   string // of the registry's error, such as TAG_INVALID, "" if it gives none
}

func (e *Refusal) Error() string {
	text := fmt.Sprintf("the registry %s refuses the push with status %d", e.Host, e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	return text
}

// refusal reads what a registry says against a push.
func (h *Host) refusal(resp *http.Response) error {
	e := &Refusal{Host: h.base.Host, Status: resp.StatusCode}
	var answer struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer) == nil && len(answer.Errors) > 0 {
		if code := answer.Errors[0].Code; len(code) < 64 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" {
			e.Code = code
		}
	}
	return e
}

// HasBlob reports whether repo has a blob itself. It is asked with the rights of a push;
// via is the value of [registry.ViaHeader].
func (h *Host) HasBlob(ctx context.Context, repo string, d registry.Digest, via string) (bool, error) {
	resp, err := h.do(ctx, call{method: http.MethodHead, path: "/v2/" + repo + "/blobs/" + string(d), header: http.Header{registry.ViaHeader: {via}}, repo: repo, push: true})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	drain(resp)
	return true, nil
}

// TagDigest returns what a tag of repo points to, "" if there is none, with the rights
// of a push; via is the value of [registry.ViaHeader].
func (h *Host) TagDigest(ctx context.Context, repo string, ref registry.Reference, via string) (registry.Digest, error) {
	resp, err := h.do(ctx, call{method: http.MethodHead, path: "/v2/" + repo + "/manifests/" + ref.String(), header: http.Header{"Accept": accept, registry.ViaHeader: {via}}, repo: repo, push: true})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	drain(resp)
	if d, err := registry.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil {
		return d, nil
	}
	m, err := h.Manifest(ctx, repo, ref)
	return m.Digest, err
}

// Upload is an upload that a registry has begun to take.
type Upload struct {
	Location string // of the session, absolute
	Offset   int64  // how many bytes it has
}

// StartUpload begins an upload. It mounts the blob instead if the registry has it in
// from ("": nowhere that we know of), and returns nil then.
func (h *Host) StartUpload(ctx context.Context, repo string, d registry.Digest, from string) (*Upload, error) {
	c := call{method: http.MethodPost, path: "/v2/" + repo + "/blobs/uploads/", repo: repo, push: true, from: from}
	if from != "" {
		c.query = url.Values{"mount": {string(d)}, "from": {from}}.Encode()
	}
	resp, err := h.do(ctx, c)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusCreated {
		return nil, nil //nolint:nilnil // it has the blob: there is nothing to upload
	}
	asked := h.base
	if resp.Request != nil { // where redirects have led to
		asked = resp.Request.URL
	}
	return h.session(resp, asked, 0)
}

// session reads where an upload goes on. A registry may say another host: it gets no
// credentials of ours then, and must have https if the registry has.
func (h *Host) session(resp *http.Response, asked *url.URL, offset int64) (*Upload, error) {
	where := resp.Header.Get("Location")
	to, err := asked.Parse(where)
	if err != nil || where == "" || to.User != nil || to.Scheme != "https" && (to.Scheme != "http" || h.base.Scheme == "https") {
		return nil, registry.ErrUnavailable.With("the registry %s does not say where to upload to", h.base.Host)
	}
	return &Upload{to.String(), offset}, nil
}

// UploadStatus asks how many bytes an upload has. [registry.ErrManifestUnknown] if the
// registry does not know it (any more).
func (h *Host) UploadStatus(ctx context.Context, repo, location string) (*Upload, error) {
	to, err := h.base.Parse(location)
	if err != nil {
		return nil, err
	}
	resp, err := h.do(ctx, call{method: http.MethodGet, target: to, repo: repo, push: true})
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	var last int64 = -1
	if _, text, ok := strings.Cut(resp.Header.Get("Range"), "-"); ok {
		if last, err = strconv.ParseInt(text, 10, 64); err != nil || last < 0 {
			last = -1
		}
	}
	// "0-0" is both one byte and none: none is always right to begin with.
	if last == 0 {
		last = -1
	}
	next, err := h.session(resp, to, last+1)
	if err != nil {
		next, err = &Upload{location, last + 1}, nil
	}
	return next, err
}

// Append sends size bytes of a blob to an upload, from its offset on, and returns it
// as it is then.
func (h *Host) Append(ctx context.Context, repo string, u *Upload, size int64, body func() io.ReadCloser) (*Upload, error) {
	to, err := h.base.Parse(u.Location)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", u.Offset, u.Offset+size-1)}}
	resp, err := h.do(ctx, call{method: http.MethodPatch, target: to, header: header, repo: repo, push: true, body: body, size: size})
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	return h.session(resp, to, u.Offset+size)
}

// Finish ends an upload that has all bytes of a blob.
func (h *Host) Finish(ctx context.Context, repo string, u *Upload, d registry.Digest) error {
	to, err := h.base.Parse(u.Location)
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", string(d))
	to.RawQuery = q.Encode()
	resp, err := h.do(ctx, call{method: http.MethodPut, target: to, repo: repo, push: true})
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// PutManifest pushes a manifest under a tag, or by its digest. The condition is for
// registries that know If-Match; via is the value of [registry.ViaHeader].
func (h *Host) PutManifest(ctx context.Context, repo string, ref registry.Reference, m registry.Manifest, c registry.Condition, via string) error {
	header := http.Header{"Content-Type": {m.MediaType}, registry.ViaHeader: {via}}
	switch {
	case c.Match != "":
		header.Set("If-Match", strconv.Quote(string(c.Match)))
	case c.Absent:
		header.Set("If-None-Match", "*")
	}
	resp, err := h.do(ctx, call{method: http.MethodPut, path: "/v2/" + repo + "/manifests/" + ref.String(), header: header, repo: repo, push: true,
		body: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(m.Bytes)) }, size: int64(len(m.Bytes))})
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// DeleteManifest removes a tag, or a manifest by its digest. What is not there is
// removed. The condition is for registries that know If-Match; via is the value of
// [registry.ViaHeader].
func (h *Host) DeleteManifest(ctx context.Context, repo string, ref registry.Reference, c registry.Condition, via string) error {
	header := http.Header{registry.ViaHeader: {via}}
	if c.Match != "" {
		header.Set("If-Match", strconv.Quote(string(c.Match)))
	}
	resp, err := h.do(ctx, call{method: http.MethodDelete, path: "/v2/" + repo + "/manifests/" + ref.String(), header: header, repo: repo, push: true, remove: true})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// TryNow lets the next request be made although many have failed. A pause that the
// host asked for is kept to.
func (b *Breaker) TryNow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = min(b.failed, failures-1)
}
