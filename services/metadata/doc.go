// Package metadata owns names: repositories, tags with their history, manifests,
// referrers, and which repository may read which blob. [Catalog] implements
// [registry.Catalog] with one set of SQL statements; packages sqlite
// and postgres open its database. It needs a [registry.Reaper] to remove copies that lost against an
// earlier copy of the same content.
//
// # Who keeps what
//
// All changes are operations of [sqldb.DB.Write]: a push of a manifest with its
// references and tags is one of them, so it happens as a whole or not at all.
// Foreign keys and the checks of these operations keep the invariants that
// [Catalog.Fsck] verifies: a tag's manifest exists, what a manifest needs is
// known in its repository, the last entry of a tag's history is its value.
//
// A read is one query, a search in an index; nothing a request does grows with
// the store. Rows that were read are cached where this process has the database
// alone, see [rowCache] for why a reader never sees a value older than one that
// somebody has seen.
//
// Where others share the database, operations name what they rely on: locks.go
// has the rules.
//
// No operation makes a copy in the table garbage live again, which is why its
// bytes may be removed outside any transaction. Only the worker that removes
// them may take one out, see [Catalog.rescue].
package metadata
