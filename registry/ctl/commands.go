package ctl

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/client"
	"github.com/berth-registry/berth/registry/daemon"
)

// parse reads REPO, REPO:TAG or REPO@DIGEST. The reference is empty for REPO
// alone.
func parse(s string) (registry.Name, registry.Reference, error) {
	var ref registry.Reference
	name := s
	if at := strings.IndexByte(s, '@'); at >= 0 {
		d, err := registry.ParseDigest(s[at+1:])
		if err != nil {
			return "", ref, usage("%q: %w", s, err)
		}
		name, ref.Digest = s[:at], d
	} else if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, '/') {
		t, err := registry.ParseTag(s[colon+1:])
		if err != nil {
			return "", ref, usage("%q: %w", s, err)
		}
		name, ref.Tag = s[:colon], t
	}
	repo, err := registry.ParseName(name)
	if err != nil {
		return "", ref, usage("%q: %w", s, err)
	}
	return repo, ref, nil
}

// parseImage is parse for what names a manifest. The tag is latest if there is
// none, as for container engines.
func parseImage(s string) (registry.Name, registry.Reference, error) {
	repo, ref, err := parse(s)
	if ref == (registry.Reference{}) {
		ref.Tag = "latest"
	}
	return repo, ref, err
}

func parseDigested(s string) (registry.Name, registry.Digest, error) {
	repo, ref, err := parse(s)
	if err == nil && ref.Digest == "" {
		err = usage("%q: must be REPO@DIGEST", s)
	}
	return repo, ref.Digest, err
}

func repos(ctx context.Context, c *call) error {
	c.out.header("REPOSITORY")
	n := 0
	for name, err := range client.Repositories(ctx, c.Catalog, operator) {
		if err != nil {
			return err
		}
		if n++; c.flags.limit > 0 && n > c.flags.limit {
			return nil
		}
		c.out.row(map[string]any{"repository": name}, string(name))
	}
	return nil
}

func tags(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err != nil {
		return err
	}
	if ref != (registry.Reference{}) {
		return usage("%q: must be a repository", c.args[0])
	}
	c.out.header("TAG")
	n := 0
	for t, err := range client.Tags(ctx, c.Catalog, operator, repo) {
		if err != nil {
			return err
		}
		if n++; c.flags.limit > 0 && n > c.flags.limit {
			return nil
		}
		c.out.row(map[string]any{"tag": t}, string(t))
	}
	return nil
}

func history(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err != nil {
		return err
	}
	if ref.Tag == "" {
		return usage("%q: must be REPO:TAG", c.args[0])
	}
	if c.flags.limit < 1 || c.flags.limit > 1000 {
		return usage("--limit must be 1 to 1000")
	}
	changes, err := c.Catalog.TagHistory(ctx, operator, repo, ref.Tag, c.flags.limit)
	if err != nil {
		return err
	}
	c.out.header("TIME", "ACTOR", "DIGEST")
	for _, ch := range changes {
		at := time.UnixMicro(ch.At).UTC().Format(time.RFC3339Nano)
		digest := ch.Digest.String()
		if digest == "" {
			digest = "(removed)"
		}
		c.out.row(map[string]any{"time": at, "actor": ch.Actor, "digest": ch.Digest}, at, orDash(ch.Actor), digest)
	}
	return nil
}

func manifest(ctx context.Context, c *call) error {
	repo, ref, err := parseImage(c.args[0])
	if err != nil {
		return err
	}
	m, err := c.Catalog.Manifest(ctx, operator, repo, registry.ManifestQuery{Ref: ref})
	if err != nil {
		return err
	}
	if c.flags.content {
		return c.out.raw(m.Bytes)
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	type reference struct {
		Digest   registry.Digest `json:"digest"`
		Size     int64           `json:"size"`
		Manifest bool            `json:"manifest,omitempty"`
		Optional bool            `json:"optional,omitempty"`
	}
	references := make([]reference, len(info.References))
	for i, r := range info.References {
		references[i] = reference(r)
	}
	c.out.pairs(map[string]any{
		"digest": m.Digest, "mediaType": m.MediaType, "size": m.Size, "artifactType": info.ArtifactType,
		"annotations": info.Annotations, "subject": info.Subject, "references": references,
	}, "digest", m.Digest.String(), "media type", m.MediaType, "size", strconv.FormatInt(m.Size, 10),
		"artifact type", orDash(info.ArtifactType), "subject", orDash(info.Subject.String()))
	for _, k := range sortedKeys(info.Annotations) {
		c.out.text("annotation", k+"="+info.Annotations[k])
	}
	for _, r := range references {
		c.out.text("refers to", r.Digest.String()+"  "+strconv.FormatInt(r.Size, 10))
	}
	return nil
}

func referrers(ctx context.Context, c *call) error {
	repo, ref, err := parseImage(c.args[0])
	if err != nil {
		return err
	}
	subject := ref.Digest
	if subject == "" {
		m, err := c.Catalog.Manifest(ctx, operator, repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
		if err != nil {
			return err
		}
		subject = m.Digest
	}
	c.out.header("DIGEST", "SIZE", "ARTIFACT TYPE")
	n := 0
	for d, err := range client.Referrers(ctx, c.Catalog, operator, repo, subject, c.flags.artifactType) {
		if err != nil {
			return err
		}
		if n++; c.flags.limit > 0 && n > c.flags.limit {
			return nil
		}
		c.out.row(d, d.Digest.String(), strconv.FormatInt(d.Size, 10), orDash(d.ArtifactType))
	}
	return nil
}

func blob(ctx context.Context, c *call) error {
	repo, d, err := parseDigested(c.args[0])
	if err != nil {
		return err
	}
	b, err := c.Catalog.Blob(ctx, operator, repo, d)
	if err != nil {
		return err
	}
	c.out.pairs(map[string]any{"digest": b.Digest, "size": b.Size, "manifest": b.Inline != nil},
		"digest", b.Digest.String(), "size", strconv.FormatInt(b.Size, 10), "manifest", strconv.FormatBool(b.Inline != nil))
	return nil
}

func tag(ctx context.Context, c *call) error {
	repo, ref, err := parseImage(c.args[0])
	if err != nil {
		return err
	}
	to, err := registry.ParseTag(c.args[1])
	if err != nil {
		return usage("%q: %w", c.args[1], err)
	}
	d, err := client.Retag(ctx, c.Catalog, operator, repo, ref, to)
	if err != nil {
		return err
	}
	c.out.done(map[string]any{"repository": repo, "tag": to, "digest": d}, "%s:%s points to %s", repo, to, d)
	return nil
}

func remove(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err != nil {
		return err
	}
	var cond registry.Condition
	if c.flags.ifDigest != "" {
		if cond.Match, err = registry.ParseDigest(c.flags.ifDigest); err != nil {
			return usage("--if-digest: %w", err)
		}
	}
	switch {
	case ref.Tag != "":
		err = c.Catalog.DeleteTag(ctx, operator, repo, ref.Tag, cond)
	case ref.Digest == "":
		return usage("%q: must be REPO:TAG or REPO@DIGEST", c.args[0])
	case cond.Match != "":
		return usage("--if-digest: is for tags")
	default:
		err = c.Catalog.DeleteManifest(ctx, operator, repo, ref.Digest)
	}
	if err != nil {
		return err
	}
	c.out.done(map[string]any{"deleted": c.args[0]}, "deleted %s", c.args[0])
	return nil
}

func unlink(ctx context.Context, c *call) error {
	repo, d, err := parseDigested(c.args[0])
	if err != nil {
		return err
	}
	if err := c.Catalog.Unlink(ctx, operator, repo, d); err != nil {
		return err
	}
	c.out.done(map[string]any{"unlinked": c.args[0]}, "unlinked %s", c.args[0])
	return nil
}

func health(ctx context.Context, c *call) error {
	c.out.header("SERVICE", "SERVING", "REMARK")
	var broken []error
	for _, s := range []struct {
		name    string
		checker registry.Checker
		there   bool
	}{{"blobstore", c.Blobs, c.Blobs != nil}, {"metadata", c.Catalog, true}} {
		if !s.there {
			continue
		}
		h, err := s.checker.Check(ctx)
		remark := h.ReadOnly
		if remark != "" {
			remark = "refuses writes: " + remark
		}
		if err != nil {
			remark = registry.AsError(err).Text()
			broken = append(broken, errors.New(s.name+": "+err.Error()))
		}
		c.out.row(map[string]any{"service": s.name, "serving": err == nil, "readOnly": h.ReadOnly}, s.name, strconv.FormatBool(err == nil), orDash(remark))
	}
	if len(broken) > 0 {
		return daemon.Exit{Code: exitRefused, Err: errors.Join(broken...)}
	}
	return nil
}
