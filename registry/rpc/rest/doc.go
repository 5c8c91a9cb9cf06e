// Package rest serves the REST API below [Base]: proto/berth/api/v1/api.proto
// says what there is, grpc-gateway routes and decodes by that file's
// annotations, and this package answers from the ports.
//
// It is a package of its own, below package rpc, because only programs with a
// gateway need it.
//
// # Who may call
//
// Only clients on the machine itself, over TCP on loopback, and not through a
// proxy or from another site's page in a browser: see guard.go. Requests are
// anonymous. Everybody else gets 403, before anything is looked at.
//
// # What a request may bring
//
// Path and query, which are checked against the request message of the method:
// an unknown, repeated or malformed parameter is refused, not ignored. No method
// takes a body. Nothing in a header has a meaning, but for those the guard reads.
package rest
