// Package faults proves that a whole store, blobs on disk and names in SQLite by the
// drivers of the programs, survives every fault of the file system below it: a file
// system of ours (FUSE), on which each call that changes something fails in turn.
package faults
