// Package e2e runs the real programs from bin/ the way users do, and the
// clients they use against them.
//
// [Start] brings a [System] up in one of three topologies: linked (one
// `berth serve FILE`), split (gateway, blobstore and metadata as three
// processes that meet over gRPC on loopback) and two-gateways (split, with two
// gateways behind a proxy that sends every request to the other one). All
// programs of a system read the same configuration. A system is stopped when
// its test ends, and the test fails if a program ended by itself, did not stop
// in time, panicked or reported a data race.
//
// The tests carry the build tag e2e, because they need programs, clients and
// several minutes: `make e2e` runs all of them, `make conformance`, `make
// clients` and `make guide` one each.
package e2e
