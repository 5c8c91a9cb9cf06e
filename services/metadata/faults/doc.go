// Package faults proves that the catalog on SQLite survives every fault of the disk
// below it: each call that changes a file fails in turn, in each way, while the
// catalog works, and what is left is opened again and checked.
package faults
