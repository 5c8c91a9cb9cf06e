// Package daemon runs a process made of units: it starts them in order, waits
// for a signal or for the first failure, and stops them in reverse. It also
// makes the process's logger and sets its memory limit.
//
// It knows nothing of gRPC or of any service; the composition roots hand it
// what to run.
package daemon
