// Package certs keeps certificates, keys and authorities that follow their
// files: what is renewed there serves the next handshake, with no restart and
// without an effect on connections that exist. Files may be written in place,
// renamed over, or be symlinks that are swapped, as Kubernetes does.
//
// A file that can't be read, or does not fit the other one because only one is
// written yet, leaves what was good, and is logged once. What is about to
// expire is logged ahead, see [Pair] and [Authorities].
package certs
