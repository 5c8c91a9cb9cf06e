// Package vulndb keeps a vulnerability database of Trivy's and looks packages up in it.
//
// The reader of these databases has its file in a variable of the process, so there is
// one [DB] in a process.
package vulndb
