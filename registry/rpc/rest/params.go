package rest

import "github.com/berth-registry/berth/registry"

const (
	defaultLimit = 100
	maxLimit     = 1000
)

func limitOf(limit *int32) (int, error) {
	switch {
	case limit == nil:
		return defaultLimit, nil
	case *limit < 1 || *limit > maxLimit:
		return 0, registry.ErrPageInvalid.With("limit must be 1 to %d", maxLimit)
	}
	return int(*limit), nil
}

// page returns the page that a request asks for. The entry that it begins behind
// need not exist, but must be something an entry can be compared with.
func page[T ~string](limit *int32, after string) (registry.Page[T], error) {
	n, err := limitOf(limit)
	if err != nil {
		return registry.Page[T]{}, err
	}
	if len(after) > registry.MaxName {
		return registry.Page[T]{}, registry.ErrPageInvalid.With("after is longer than %d bytes", registry.MaxName)
	}
	for i := range len(after) {
		if after[i] <= ' ' || after[i] > '~' {
			return registry.Page[T]{}, registry.ErrPageInvalid.With("after is no entry of the list")
		}
	}
	return registry.Page[T]{After: T(after), Limit: n}, nil
}

// entries returns a page's entries, and where the next page begins, "" if there
// is none.
func entries[T ~string](list registry.List[T]) (all []string, next string) {
	for _, item := range list.Items {
		all = append(all, string(item))
	}
	if n := len(all); list.More && n > 0 {
		next = all[n-1]
	}
	return all, next
}

func repoAndTag(repo, tag string) (registry.Name, registry.Tag, error) {
	n, err := registry.ParseName(repo)
	if err != nil {
		return "", "", err
	}
	t, err := registry.ParseTag(tag)
	return n, t, err
}

func repoAndDigest(repo, digest string) (registry.Name, registry.Digest, error) {
	n, err := registry.ParseName(repo)
	if err != nil {
		return "", "", err
	}
	d, err := registry.ParseDigest(digest)
	return n, d, err
}
