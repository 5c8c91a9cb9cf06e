// Package memory implements the ports of package registry in memory. They are
// real implementations, small and correct rather than fast: tests of everything
// that calls a port use them, and they are the model the conformance suites of
// package registrytest were written against. Nothing survives the process.
package memory
