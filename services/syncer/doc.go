// Package syncer mirrors other registries: it fetches what clients ask for and the
// local store lacks, copies what a schedule selects, and says what a push into a
// mirrored repository means. It implements [registry.Mirror].
//
// It owns what it knows of upstreams (see migrations) and the staging directory.
// Everything it brings it stores through the ports, like a client: a blob with
// Uploads and Link, a manifest with PutManifest.
//
//   - rules.go: which upstream repository a local name stands for
//   - resolve.go: manifests, and how fresh a tag is
//   - fill.go, reader.go: the blob pipe; one fetch, any number of readers
//   - poll.go: scheduled copies; notices.go: copies of what an upstream tells of
//   - moves.go: which tags that move upstream are followed
//   - store.go: the database
//   - control.go: what people are told
package syncer
