// Package disktest makes small file systems for tests that fill them. It needs root
// of a Linux machine, and skips the tests of others.
package disktest
