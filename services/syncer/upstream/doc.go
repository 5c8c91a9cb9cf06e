// Package upstream speaks the distribution API as a client: manifests, blobs from
// any byte on, lists, and the credentials for them.
//
// It believes nothing that it can check, and sends credentials to nobody but the
// registry they are for: see challenge.go and [Host.send]. Answers are bounded:
// manifests by [registry.MaxManifest], lists by pages of [maxList] bytes and
// [maxPages] of them.
package upstream
