// Package gateway speaks HTTP: the OCI distribution API (distribution-spec
// 1.1.1 and what its main branch added since), zot's extension endpoints that
// need nothing but the ports, and health probes.
//
// It owns nothing. Names come from a [registry.Catalog], bytes from a
// [registry.Blobs]; what it keeps in memory can't change (manifest bytes by
// digest) or is a hint that the Catalog checks. So any number of gateways may
// stand side by side, and an upload begun at one goes on at another: the state
// is in the Location, see token.go.
//
// # The way of a request
//
// [Gateway.ServeHTTP] parses method and path (route.go, a pure function), finds
// out on whose behalf the request is made, and calls the handler from the table
// in handlers.go. A handler returns an error; fail.go is the one place where an
// error becomes an answer, and accesslog.go writes the one log record. A handler
// never wraps the http.ResponseWriter in something that hides its ReadFrom: that
// would cost sendfile(2).
//
// # Limits
//
// No time limit is set on a whole transfer. A request is cut off when no byte
// moves for [Config.ReadIdle] or [Config.WriteIdle]. All input is bounded: see
// limits.go.
package gateway
