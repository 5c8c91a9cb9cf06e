package client

import (
	"context"
	"iter"

	"github.com/berth-registry/berth/registry"
)

// pageSize is how many entries are fetched at a time.
const pageSize = 1000

// referrersPage is less: an entry may have annotations of megabytes.
const referrersPage = 100

// Repositories lists the repositories that a may read, in ascending byte order.
// It ends with the first error.
func Repositories(ctx context.Context, c registry.Repositories, a registry.Actor) iter.Seq2[registry.Name, error] {
	return walk(pageSize, func(n registry.Name) registry.Name { return n },
		func(p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
			return c.Repositories(ctx, a, p)
		})
}

// Tags lists the tags of repo in ascending byte order. It ends with the first
// error: [registry.ErrNameUnknown] if there is no such repository.
func Tags(ctx context.Context, c registry.Tags, a registry.Actor, repo registry.Name) iter.Seq2[registry.Tag, error] {
	return walk(pageSize, func(t registry.Tag) registry.Tag { return t },
		func(p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
			return c.Tags(ctx, a, repo, p)
		})
}

// Referrers lists the manifests of repo whose subject is d, of the artifact type
// given if that is not "", ordered by digest. It ends with the first error.
func Referrers(ctx context.Context, c registry.Manifests, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string) iter.Seq2[registry.Descriptor, error] {
	return walk(referrersPage, func(d registry.Descriptor) registry.Digest { return d.Digest },
		func(p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
			return c.Referrers(ctx, a, repo, d, artifactType, p)
		})
}

// walk lists all entries of a list that comes in pages of limit. key returns what
// an entry is ordered by.
func walk[T any, K ~string](limit int, key func(T) K, list func(registry.Page[K]) (registry.List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p := registry.Page[K]{Limit: limit}
		for {
			l, err := list(p)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range l.Items {
				if !yield(item, nil) {
					return
				}
				p.After = key(item)
			}
			if !l.More || len(l.Items) == 0 {
				return
			}
		}
	}
}
