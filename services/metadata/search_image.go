package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	// A deleted repository keeps its manifests: nobody finds them.
	sqlImageManifest = `
		SELECT m.media_type, m.pushed, m.payload FROM manifests m JOIN repositories r ON r.id = m.repo_id WHERE m.repo_id = $1 AND m.digest = $2`
	sqlImageConfig   = `SELECT b.pool, b.size, b.locator, b.inline FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = $1 AND l.digest = $2`
	sqlImageChildren = `
		SELECT i.created, i.platforms FROM manifest_references f JOIN images i ON i.repo_id = f.repo_id AND i.digest = f.digest
		WHERE f.repo_id = $1 AND f.manifest = $2 AND f.is_manifest`
	sqlImageParents = `
		SELECT f.repo_id, f.manifest FROM manifest_references f JOIN images i ON i.repo_id = f.repo_id AND i.digest = f.manifest
		WHERE f.repo_id = $1 AND f.digest = $2 AND f.is_manifest`
	sqlAddImage = `
		INSERT INTO images (repo_id, digest, created, platforms, vendor, layers, waits, signature) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (repo_id, digest) DO UPDATE SET created = excluded.created, platforms = excluded.platforms, vendor = excluded.vendor,
			layers = excluded.layers, waits = excluded.waits, signature = excluded.signature`
	sqlAddImageConfig = `
		INSERT INTO image_configs (repo_id, digest, config) VALUES ($1, $2, $3)
		ON CONFLICT (repo_id, digest) DO UPDATE SET config = excluded.config`
)

// image is a row of the table images, and of image_configs.
type image struct {
	key       imageKey
	gone      bool // there is no such manifest
	index     bool
	created   int64
	platforms []string
	vendor    string
	layers    []byte
	waits     []byte
	config    []byte // JSON
	signature registry.Tag
}

// index reads manifests and writes what searches need of them: images first, so that
// an index finds its own.
func (x *searchIndex) index(ctx context.Context, keys []imageKey) error {
	seen := make(map[imageKey]bool, len(keys))
	var images []*image
	var indexes []imageKey
	for _, k := range keys {
		if seen[k] {
			continue
		}
		seen[k] = true
		i, err := x.read(ctx, k)
		if err != nil {
			return err
		}
		if i.index && !i.gone {
			indexes = append(indexes, k)
		} else {
			images = append(images, i)
		}
	}
	if err := x.write(ctx, images); err != nil {
		return err
	}
	for _, i := range images {
		parents, err := x.parents(ctx, i.key)
		if err != nil {
			return err
		}
		indexes = append(indexes, parents...)
	}
	// What an index knows of its own may have changed by that, and so on.
	for level := 0; level < 4 && len(indexes) > 0; level++ {
		again := make(map[imageKey]bool)
		for _, k := range indexes {
			if again[k] {
				continue
			}
			again[k] = true
			i, err := x.read(ctx, k)
			if err != nil {
				return err
			}
			if err := x.write(ctx, []*image{i}); err != nil {
				return err
			}
		}
		indexes = nil
		for k := range again {
			parents, err := x.parents(ctx, k)
			if err != nil {
				return err
			}
			indexes = append(indexes, parents...)
		}
	}
	return nil
}

// parents returns the indexes, of those that were read, that list a manifest.
func (x *searchIndex) parents(ctx context.Context, k imageKey) ([]imageKey, error) {
	all, err := readPage(ctx, x.c.db, sqlImageParents, []any{k.repo, []byte(k.digest)}, scanImageKey)
	if err != nil {
		return nil, fmt.Errorf("looking for the indexes that list an image: %w", err)
	}
	return all, nil
}

// read finds out what searches need to know of a manifest.
func (x *searchIndex) read(ctx context.Context, k imageKey) (*image, error) {
	i := &image{key: k}
	var mediaType string
	var pushed int64
	var payload []byte
	err := x.c.db.QueryRow(ctx, sqlImageManifest, k.repo, []byte(k.digest)).Scan(&mediaType, &pushed, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		i.gone = true
		return i, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	d, err := unpack([]byte(k.digest))
	if err != nil {
		return nil, err
	}
	i.signature, i.index = registry.SignatureTag(d), mediaType == registry.TypeIndex || mediaType == registry.TypeDockerList
	content, err := registry.ReadImageContent(payload)
	if err != nil { // the bytes are damaged, which scrubbing finds out
		i.created = pushed
		return i, nil
	}
	i.vendor = strings.ReplaceAll(content.Annotations[imgspec.AnnotationVendor], "\x00", "")
	if len(i.vendor) > 256 {
		i.vendor = ""
	}
	if i.index {
		if err := x.readChildren(ctx, i, content); err != nil {
			return nil, err
		}
	} else if err := x.readConfig(ctx, i, content); err != nil {
		return nil, err
	}
	i.created = cmp.Or(i.created, content.Created(), pushed)
	return i, nil
}

// readChildren takes over what the manifests of an index say.
func (x *searchIndex) readChildren(ctx context.Context, i *image, content registry.ImageContent) error {
	for _, d := range content.Manifests {
		i.platforms = insert(i.platforms, registry.DescriptorPlatform(d))
	}
	children, err := readPage(ctx, x.c.db, sqlImageChildren, []any{i.key.repo, []byte(i.key.digest)}, func(rows *sqldb.Rows, c *image) error {
		var platforms string
		err := rows.Scan(&c.created, &platforms)
		c.platforms = strings.Split(platforms, ",")
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the images of an index: %w", err)
	}
	for _, c := range children {
		i.created = max(i.created, c.created)
		for _, p := range c.platforms {
			if len(i.platforms) < registry.MaxSearchChildren {
				i.platforms = insert(i.platforms, p)
			}
		}
	}
	return nil
}

// readConfig takes over what an image's config says, if it is one and is here.
func (x *searchIndex) readConfig(ctx context.Context, i *image, content registry.ImageContent) error {
	var layers []registry.Digest
	for _, l := range content.Layers {
		layers = append(layers, l.Digest)
	}
	if content.Config == nil || !registry.IsImageConfig(content.Config.MediaType) || content.Config.Size > registry.MaxImageConfig {
		return nil
	}
	i.layers = packLayers(layers)
	b, err := x.readBlob(ctx, i.key.repo, content.Config.Digest)
	if err != nil {
		return err
	}
	if b == nil {
		i.waits = packKnown(content.Config.Digest)
		return nil
	}
	config, err := registry.ReadImageConfig(b)
	if err != nil {
		return nil // whoever pushed it has other ideas of a config
	}
	if i.config, err = json.Marshal(config); err != nil {
		return fmt.Errorf("writing an image's config: %w", err)
	}
	i.created = config.Time()
	i.platforms = insert(nil, config.Platform())
	if i.vendor == "" {
		i.vendor = config.Config.Labels[imgspec.AnnotationVendor]
	}
	return nil
}

// readBlob returns the bytes of a small blob, nil if they can't be had. It is an error
// if they may be had later.
func (x *searchIndex) readBlob(ctx context.Context, repo int64, d registry.Digest) ([]byte, error) {
	s := registry.Stored{Digest: d}
	var inline []byte
	err := x.c.db.QueryRow(ctx, sqlImageConfig, repo, packKnown(d)).Scan(&s.Pool, &s.Size, &s.Locator, &inline)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for a config: %w", err)
	}
	if inline != nil {
		return inline, nil
	}
	if x.blobs == nil || s.Size > registry.MaxImageConfig {
		return nil, nil
	}
	content, err := x.blobs.Open(ctx, s, registry.Range{Length: -1, Verify: true})
	if err == nil {
		defer content.Close()
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(content, registry.MaxImageConfig)); err == nil {
			return b, nil
		}
	}
	if ctx.Err() != nil || errors.Is(err, registry.ErrUnavailable) {
		return nil, fmt.Errorf("reading a config: %w", err)
	}
	x.c.log.Debug("an image's config can't be read", "digest", d, "error", err)
	return nil, nil
}

// write stores what was found out, or removes what is gone.
func (x *searchIndex) write(ctx context.Context, images []*image) error {
	for part := range slices.Chunk(images, searchPart) {
		err := x.c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil { // there is one writer
				return err
			}
			for _, i := range part {
				if err := i.write(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("writing what searches need: %w", err)
		}
	}
	return nil
}

func (i *image) write(tx *sqldb.Tx) error {
	k := []any{i.key.repo, []byte(i.key.digest)}
	if i.gone {
		if err := tx.Queue(sqlNoImage, k...); err != nil {
			return err
		}
		return tx.Queue(sqlNoImageConfig, k...)
	}
	platforms := ""
	if len(i.platforms) > 0 {
		platforms = "," + strings.Join(i.platforms, ",") + ","
	}
	err := tx.Queue(sqlAddImage, append(k, i.created, platforms, i.vendor, nullable(i.layers), nullable(i.waits), string(i.signature))...)
	if err != nil || i.config == nil {
		return err
	}
	return tx.Queue(sqlAddImageConfig, append(k, string(i.config))...)
}
