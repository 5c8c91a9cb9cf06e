package metadata

import (
	"slices"

	"github.com/berth-registry/berth/registry"
)

// Who puts a manifest may set a tag that exists by another right than one that does
// not, and only the transaction knows which do. So what the rules say to either is
// found out before anything is read, and the transaction chooses.

// tagRights are why a tag may not be created, and why it may not be moved.
type tagRights struct{ create, update error }

// either returns nil if one of both may be.
func (r tagRights) either() error {
	if r.create == nil || r.update == nil {
		return nil
	}
	return r.create
}

// may returns nil if the tag may be set, which exists or not.
func (r tagRights) may(exists bool) error {
	if exists {
		return r.update
	}
	return r.create
}

// putRights are those to each of a put's tags, each tag once. nil: everything.
type putRights []tagRights

func (r putRights) may(i int, exists bool) error {
	if r == nil {
		return nil
	}
	return r[i].may(exists)
}

// mayTag returns the rights to a tag.
func (c *Catalog) mayTag(a registry.Actor, repo registry.Name, t registry.Tag) tagRights {
	ref := registry.Reference{Tag: t}
	return tagRights{create: c.access.allowRef(a, repo, ref, registry.ActCreate), update: c.access.allowRef(a, repo, ref, registry.ActUpdate)}
}

// mayPut returns the rights to the tags of m, or why it can't be put in any case.
func (c *Catalog) mayPut(a registry.Actor, repo registry.Name, m registry.ManifestPut) (putRights, error) {
	if len(m.Tags) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags
	}
	if m.ByDigest || len(m.Tags) == 0 {
		if err := c.access.allowRef(a, repo, registry.Reference{Digest: m.Digest}, registry.ActCreate); err != nil {
			return nil, err
		}
	}
	var rights putRights
	for _, t := range once(m.Tags) {
		r := c.mayTag(a, repo, t)
		if err := r.either(); err != nil {
			return nil, err
		}
		rights = append(rights, r)
	}
	return rights, c.allowGrowth(repo)
}

// once returns the tags, each once.
func once(tags []registry.Tag) []registry.Tag {
	var all []registry.Tag
	for _, t := range tags {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}
