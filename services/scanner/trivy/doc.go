// Package trivy compares what the scanner finds in files with what Trivy's own parsers
// find in the same files.
package trivy
