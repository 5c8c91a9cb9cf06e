// Package registrytest holds one conformance suite per port of package
// registry. The suites say in Go what the comments of the ports say in words:
// every implementation passes them, near or across the network, and so does
// every decorator.
//
// A suite looks at a port only through its methods, compares errors only with
// errors.Is, and takes any order of events the contract allows. It waits for
// nothing but events, except where an implementation works behind the call; there
// it asks again until a deadline.
//
// What a backend can't do, it declares by the test's name in Cannot. Such a
// test is skipped visibly, and a name that no test has is an error.
package registrytest
