// Package metrics counts what a process does and writes it in the text format
// of Prometheus.
//
// A part of the process gets a [Set] from who builds it and asks it for its
// counters, gauges and histograms once, when it is built. Counting is one or two
// atomic additions and allocates nothing. There is no registry of the process
// and nothing registers itself.
//
// Label values are given by the program: a set of them that a client could make
// grow does not belong into a label. What is known by a name that users choose,
// a repository say, goes through [Top], which has room for so many names.
package metrics
