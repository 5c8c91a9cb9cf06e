// Package rest serves the REST API below [Base]: proto/berth/api/v1/api.proto
// says what there is, grpc-gateway routes and decodes by that file's
// annotations, and this package answers from the ports.
//
// It is a package of its own, below package rpc, because only programs with a
// gateway need it.
//
// # Who may call
//
// Where the gateway authenticates clients (http.auth), whoever it lets in: each method
// does what the catalog lets the user do, many of them for administrators only.
//
// Else only clients on the machine itself, over TCP on loopback, and not through a
// proxy: see guard.go. Requests are anonymous then. Everybody else gets 403, before
// anything is looked at. Pages of other sites are refused in both cases.
//
// # What a request may bring
//
// Path and query, which are checked against the request message of the method:
// an unknown, repeated or malformed parameter is refused, not ignored. No method
// takes a body. Nothing in a header has a meaning, but for those the guard reads.
package rest
