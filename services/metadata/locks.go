package metadata

import (
	"slices"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// The locks of operations, in the order in which they are taken: a repository,
// tags by name, a copy. Who adds to a repository shares its lock; who removes
// something that others of the repository may need has it alone. Whoever decides
// on a tag or on a pool's copy of a digest has that alone.

func usesRepo(repo registry.Name) sqldb.Lock {
	return sqldb.Lock{Name: "repository " + string(repo), Shared: true}
}

func removesFrom(repo registry.Name) sqldb.Lock {
	return sqldb.Lock{Name: "repository " + string(repo)}
}

func decidesTags(repo registry.Name, tags ...registry.Tag) []sqldb.Lock {
	all := make([]sqldb.Lock, len(tags))
	for i, t := range slices.Sorted(slices.Values(tags)) {
		all[i] = sqldb.Lock{Name: "tag " + string(repo) + ":" + string(t)}
	}
	return all
}

func decidesCopy(p registry.Pool, d registry.Digest) sqldb.Lock {
	return sqldb.Lock{Name: "copy " + string(p) + " " + string(d)}
}
