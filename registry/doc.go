// Package registry is the contract between Berth's services: the value types
// they exchange, the errors they may return, and one Go interface ("port") per
// service.
//
//   - [Blobs] owns bytes. It stores immutable content and knows nothing of
//     names. Implemented by services/blobstore and memory.Blobs.
//   - [Catalog] owns names: repositories, tags, manifests, referrers, and which
//     repository may read which blob. Implemented by services/metadata and
//     memory.Catalog.
//
// Each port has a second implementation in registry/rpc with the same methods
// over gRPC. The composition roots (allinone and the cmd directories) choose
// one of the two, once; no other code knows whether its peer is in the same
// process. The conformance suites in registry/registrytest say in Go what the
// comments here say in words.
//
// # A push
//
// The gateway asks [Catalog.Admit] whether the actor may write and which [Pool]
// the repository's bytes belong to, streams the body to [Blobs.Append] and
// [Blobs.Commit], and hands the [Stored] it gets to [Catalog.Link]. After the
// last blob, [Catalog.PutManifest] stores the manifest, its references and its
// tags in one transaction. What was answered without error is durable.
//
// # A pull
//
// One call, [Catalog.Manifest] or [Catalog.Blob], authorizes the actor,
// resolves the tag or the link, and tells where the bytes are; [Blobs.Open]
// reads them. There is no other look-up.
//
// All methods may be called from many goroutines at once. Every method that
// takes a context returns soon after the context ends, with its error.
package registry
