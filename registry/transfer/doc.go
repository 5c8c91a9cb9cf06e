// Package transfer moves images between a registry and files: OCI image layouts,
// as directories and as tar archives (image-spec, image-layout.md), and what
// docker save writes. Several repositories are one layout each, below a directory
// of the repository's name, as zot keeps them.
//
// All is streamed. Memory is for an index, a manifest, and the names of what an
// archive holds.
package transfer
