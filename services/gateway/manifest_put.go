package gateway

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// manifestPut answers PUT of a manifest, by tag or by digest, in the latter case
// with any number of tags to set.
func (g *Gateway) manifestPut(x *exchange) error {
	tags, err := x.tags()
	if err != nil {
		return err
	}
	mediaType := x.header("Content-Type")
	if i := strings.IndexByte(mediaType, ';'); i >= 0 {
		mediaType = mediaType[:i]
	}
	mediaType = strings.Trim(mediaType, " \t")
	if !x.settings.DockerSchema2 && (mediaType == registry.TypeDockerManifest || mediaType == registry.TypeDockerList) {
		return registry.ErrMediaTypeUnsupported.With("docker image types are turned off here (http.compat lacks docker2s2): push OCI types, for instance with docker buildx build --output type=image,oci-mediatypes=true")
	}
	leave, err := g.enterManifest(x)
	if err != nil {
		return err
	}
	defer leave()
	content, err := readManifest(x)
	if err != nil {
		return err
	}
	covered, err := g.mayPush(x)
	if err != nil {
		return err
	}
	cond, err := g.condition(x, len(tags))
	if err != nil {
		return err
	}
	put := registry.ManifestPut{Digest: x.ref.Digest, MediaType: mediaType, Bytes: content, Tags: tags, If: cond, ByDigest: x.ref.Digest != ""}
	if put.Digest == "" {
		put.Digest = registry.SHA256.FromBytes(content)
	}
	if err := g.lint(x, put); err != nil {
		return err
	}
	ctx, cancel := finish(x.context())
	defer cancel()
	var info registry.ManifestInfo
	err = g.announced(ctx, x, covered, registry.AnnouncedPush{Tags: tags, Digest: put.Digest}, func() (err error) {
		info, err = g.catalog.PutManifest(ctx, x.actor, x.repo, put)
		return err
	})
	g.recent.changed(x.repo)
	if err != nil {
		return doing("storing a manifest", err)
	}
	if err := g.pushed(ctx, x); err != nil {
		return err
	}
	if info.Subject != "" {
		x.set("Oci-Subject", string(info.Subject))
	}
	if len(x.r.URL.RawQuery) > 0 {
		for _, t := range tags {
			x.w.Header()["Oci-Tag"] = append(x.w.Header()["Oci-Tag"], string(t))
		}
	}
	x.created("/manifests/", put.Digest)
	return nil
}

// tags returns the tags that a PUT sets: that of the path, and those of the
// query, each once.
func (x *exchange) tags() ([]registry.Tag, error) {
	var tags []registry.Tag
	if x.ref.Tag != "" {
		tags = append(tags, x.ref.Tag)
	}
	params := x.params("tag")
	if len(params) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags.With("at most %d tags at once", registry.MaxTagsPerPut)
	}
	for _, p := range params {
		t, err := registry.ParseTag(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	if len(tags) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags.With("at most %d tags at once", registry.MaxTagsPerPut)
	}
	return tags, nil
}

// usualManifest is the size up to which a manifest is read before it is known whether the
// client may push: nearly all are smaller, and the catalog is asked once.
const usualManifest = 64 << 10

// Of manifests that are larger, or of which nobody said how large they are, so many are in
// memory at a time, where each takes several times its size while it is looked at. Others
// wait for so long.
const (
	largeManifests = 8
	largeWait      = 10 * time.Second
)

// enterManifest waits until the manifest of a request may be read, and returns what to
// call when it is needed no more. A large one is not read for who may not push, whatever
// the tag: what many such clients send would be in memory at a time.
func (g *Gateway) enterManifest(x *exchange) (leave func(), err error) {
	switch n := x.r.ContentLength; {
	case n > registry.MaxManifest:
		return nil, errLargeManifest
	case n >= 0 && n <= usualManifest:
		return func() {}, nil
	}
	switch may, err := g.mayChange(x.context(), x, registry.ActCreate|registry.ActUpdate); {
	case err != nil:
		return nil, err
	case !may:
		if _, err := g.catalog.Admit(x.context(), x.actor, x.repo); err != nil { // which says why
			return nil, doing("refusing a large manifest", err)
		}
		return nil, x.actor.Refusal("")
	}
	late := time.NewTimer(largeWait)
	defer late.Stop()
	select {
	case g.large <- struct{}{}:
		return func() { <-g.large }, nil
	case <-late.C:
		return nil, registry.ErrTooManyRequests.With("too many large manifests are being pushed").After(largeWait)
	case <-x.context().Done():
		return nil, doing("waiting to read a large manifest", context.Cause(x.context()))
	}
}

var errLargeManifest = registry.ErrTooLarge.With("manifest is larger than %d bytes", registry.MaxManifest)

// readManifest reads the body, of which no more than one byte above the limit is
// ever in memory.
func readManifest(x *exchange) ([]byte, error) {
	b := x.open(x.settings.ReadIdle, -1)
	var buf bytes.Buffer
	if n := x.r.ContentLength; n > 0 {
		buf.Grow(int(min(n, usualManifest)) + bytes.MinRead) // more when it has come
	}
	_, err := buf.ReadFrom(&io.LimitedReader{R: b, N: registry.MaxManifest + 1})
	switch {
	case err != nil:
		return nil, doing("reading a manifest", b.cause(err))
	case buf.Len() > registry.MaxManifest:
		return nil, errLargeManifest
	}
	return buf.Bytes(), nil
}
