package metadata

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// foundImage is an image that was found, by its key.
type foundImage struct {
	registry.FoundImage
	key imageKey
}

// What is told of manifests, m, and of tags, h.
const (
	findManifests = `
		SELECT m.repo_id, m.digest, m.media_type, m.size, m.pushed, m.artifact_type, CASE WHEN m.size <= ? AND m.damaged IS NULL THEN m.payload END, i.created, x.config
		FROM manifests m LEFT JOIN images i ON i.repo_id = m.repo_id AND i.digest = m.digest
		LEFT JOIN image_configs x ON x.repo_id = m.repo_id AND x.digest = m.digest WHERE `
	findTagChange = `
		SELECT h.repo_id, h.name, h.at, h.actor FROM tag_history h
		WHERE h.number = (SELECT l.number FROM tag_history l WHERE l.repo_id = h.repo_id AND l.name = h.name ORDER BY l.number DESC LIMIT 1) AND `
	findPulls      = `SELECT p.repo_id, p.digest, SUM(p.times), MAX(p.at) FROM pulls p WHERE `
	findReferrers  = `SELECT m.repo_id, m.subject, m.digest, m.media_type, m.size, m.artifact_type, CASE WHEN LENGTH(m.annotations) <= 4096 THEN m.annotations END FROM manifests m WHERE `
	findSignatures = `SELECT t.repo_id, t.name FROM tags t WHERE `
)

// maxDetails is how many bytes of manifests one answer has, about: it ends behind
// the image that comes to it.
const maxDetails = 3 << 20

// told is what an answer tells of a manifest.
type told struct {
	registry.FoundManifest
	pushed   int64
	children []registry.Digest // of an index
}

// imageDetails returns what to tell of images; fewer of them if it is too much.
func (c *Catalog) imageDetails(ctx context.Context, r *reader, images []foundImage, detail registry.ImageDetail) ([]registry.FoundImage, error) {
	all := make([]registry.FoundImage, 0, len(images))
	for room := maxDetails; len(images) > 0 && room > 0; {
		part := images[:min(len(images), searchPart)]
		images = images[len(part):]
		known := make(map[imageKey]*told)
		keys := make([]imageKey, 0, len(part))
		for i := range part {
			d, err := unpack([]byte(part[i].key.digest))
			if err != nil {
				return nil, err
			}
			part[i].Digest = d
			part[i].Deletable = part[i].Tag != "" && c.access.allowRef(r.a, part[i].Repository, registry.Reference{Tag: part[i].Tag}, registry.ActDelete) == nil
			keys = append(keys, part[i].key)
		}
		if err := c.tellManifests(ctx, known, keys, detail); err != nil {
			return nil, err
		}
		if detail&registry.DetailContent != 0 {
			if err := c.tellTags(ctx, part); err != nil {
				return nil, err
			}
		}
		for i := range part {
			room -= part[i].complete(known)
			all = append(all, part[i].FoundImage)
		}
	}
	return all, nil
}

// complete puts what is known into an image, and returns how many bytes of manifests it has.
func (i *foundImage) complete(known map[imageKey]*told) int {
	m := known[i.key]
	if m == nil {
		return 0
	}
	size := len(m.Bytes)
	i.FoundManifest, i.Pushed = m.FoundManifest, m.pushed
	for _, d := range m.children {
		if child := known[imageKey{i.key.repo, string(packKnown(d))}]; child != nil && child.Digest != "" {
			i.Manifests = append(i.Manifests, child.FoundManifest)
			size += len(child.Bytes)
		}
	}
	return size
}

// tellManifests reads what to tell of manifests, and of those that indexes list.
func (c *Catalog) tellManifests(ctx context.Context, known map[imageKey]*told, keys []imageKey, detail registry.ImageDetail) error {
	for depth := 0; depth < 2 && len(keys) > 0; depth++ {
		for _, k := range keys {
			d, err := unpack([]byte(k.digest))
			if err != nil {
				return err
			}
			known[k] = &told{FoundManifest: registry.FoundManifest{Manifest: registry.Manifest{Digest: d}}}
		}
		if detail&registry.DetailPulls != 0 {
			if err := c.tellPulls(ctx, known, keys); err != nil {
				return err
			}
		}
		if detail&registry.DetailReferrers != 0 {
			if err := c.tellReferrers(ctx, known, keys); err != nil {
				return err
			}
		}
		if detail&registry.DetailContent == 0 {
			return nil
		}
		var err error
		if keys, err = c.tellContent(ctx, known, keys); err != nil {
			return err
		}
	}
	return nil
}

// tellContent reads manifests and configs, and returns which others indexes list.
func (c *Catalog) tellContent(ctx context.Context, known map[imageKey]*told, keys []imageKey) (children []imageKey, err error) {
	there := make(map[imageKey]bool, len(keys))
	err = eachPart(keys, func(all [][]any) error {
		s := new(search)
		s.add(findManifests, registry.MaxSearchManifest)
		s.any("m.repo_id = ? AND m.digest = ?", all)
		return c.find(ctx, s, func(scan func(...any) error) error {
			var k imageKey
			var m told
			var created sql.NullInt64
			var config sql.NullString
			if err := scan(&k.repo, &k.digest, &m.MediaType, &m.Size, &m.pushed, &m.ArtifactType, &m.Bytes, &created, &config); err != nil {
				return err
			}
			to := known[k]
			if to == nil {
				return nil
			}
			there[k] = true
			to.MediaType, to.Size, to.pushed, to.ArtifactType, to.Bytes = m.MediaType, m.Size, m.pushed, m.ArtifactType, m.Bytes
			if to.Created = created.Int64; !created.Valid {
				to.Created = m.pushed
			}
			if config.Valid {
				to.Config = new(registry.ImageConfig)
				if err := json.Unmarshal([]byte(config.String), to.Config); err != nil {
					return err
				}
			}
			content, err := registry.ReadImageContent(m.Bytes)
			if m.Bytes == nil || err != nil {
				return nil // which is told without
			}
			for _, d := range content.Manifests[:min(len(content.Manifests), registry.MaxSearchChildren)] {
				if child := (imageKey{k.repo, string(packKnown(d.Digest))}); len(child.digest) > 0 && !slices.Contains(to.children, d.Digest) {
					to.children = append(to.children, d.Digest)
					if known[child] == nil {
						children = append(children, child)
					}
				}
			}
			return nil
		})
	})
	for _, k := range keys {
		if !there[k] {
			known[k].Digest = "" // an index lists it, and it is not here
		}
	}
	return children, err
}

func (c *Catalog) tellPulls(ctx context.Context, known map[imageKey]*told, keys []imageKey) error {
	return eachPart(keys, func(all [][]any) error {
		s := new(search)
		s.add(findPulls)
		s.any("p.repo_id = ? AND p.digest = ?", all)
		s.add(" GROUP BY p.repo_id, p.digest")
		return c.find(ctx, s, func(scan func(...any) error) error {
			var k imageKey
			var times, at int64
			if err := scan(&k.repo, &k.digest, &times, &at); err != nil {
				return err
			}
			if to := known[k]; to != nil {
				to.Downloads, to.LastPull = times, at
			}
			return nil
		})
	})
}

func (c *Catalog) tellReferrers(ctx context.Context, known map[imageKey]*told, keys []imageKey) error {
	return eachPart(keys, func(all [][]any) error {
		s := new(search)
		s.add(findReferrers)
		s.any("m.repo_id = ? AND m.subject = ?", all)
		s.add(" ORDER BY m.repo_id, m.subject, m.digest LIMIT ?", searchPart*registry.MaxSearchReferrers)
		err := c.find(ctx, s, func(scan func(...any) error) error {
			var k imageKey
			var digest []byte
			var annotations sql.NullString
			var d registry.Descriptor
			err := scan(&k.repo, &k.digest, &digest, &d.MediaType, &d.Size, &d.ArtifactType, &annotations)
			if err != nil {
				return err
			}
			to := known[k]
			if to == nil {
				return nil
			}
			if tool := registry.SignatureTool(d.ArtifactType); tool != "" && !slices.Contains(to.Signatures, tool) {
				to.Signatures = append(to.Signatures, tool)
			}
			if len(to.Referrers) == registry.MaxSearchReferrers {
				return nil
			}
			if d.Digest, err = unpack(digest); err != nil {
				return err
			}
			if annotations.String != "" {
				if err := json.Unmarshal([]byte(annotations.String), &d.Annotations); err != nil {
					return err
				}
			}
			to.Referrers = append(to.Referrers, d)
			return nil
		})
		if err != nil {
			return err
		}
		tags := make(map[string]string) // to digests
		var names [][]any
		for _, key := range all {
			d, err := unpack(key[1].([]byte))
			if err != nil {
				return err
			}
			tag := string(registry.SignatureTag(d))
			tags[tag] = string(key[1].([]byte))
			names = append(names, []any{key[0], tag})
		}
		s = new(search)
		s.add(findSignatures)
		s.any("t.repo_id = ? AND t.name = ?", names)
		return c.find(ctx, s, func(scan func(...any) error) error {
			var repo int64
			var name string
			if err := scan(&repo, &name); err != nil {
				return err
			}
			to := known[imageKey{repo, tags[name]}]
			if to != nil && !slices.Contains(to.Signatures, "cosign") {
				to.Signatures = append(to.Signatures, "cosign")
				slices.SortFunc(to.Signatures, strings.Compare)
			}
			return nil
		})
	})
}

// tellTags reads when tags were set, and by whom.
func (c *Catalog) tellTags(ctx context.Context, images []foundImage) error {
	type tag struct {
		repo int64
		name string
	}
	at := make(map[tag][]*foundImage)
	var all [][]any
	for i := range images {
		if t := (tag{images[i].key.repo, string(images[i].Tag)}); t.name != "" {
			at[t] = append(at[t], &images[i])
			all = append(all, []any{t.repo, t.name})
		}
	}
	if len(all) == 0 {
		return nil
	}
	s := new(search)
	s.add(findTagChange)
	s.any("h.repo_id = ? AND h.name = ?", padded(all))
	return c.find(ctx, s, func(scan func(...any) error) error {
		var t tag
		var when int64
		var actor string
		if err := scan(&t.repo, &t.name, &when, &actor); err != nil {
			return err
		}
		for _, i := range at[t] {
			i.Tagged, i.PushedBy = when, actor
		}
		return nil
	})
}
