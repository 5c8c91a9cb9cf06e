// Package scanner knows what is in images, and which of it has known vulnerabilities.
// It is [registry.Scans].
//
// An image's layers are read once, each as a stream ([contents]); what is in a layer is
// kept by its digest, and what was found in an image by its digest and the version of
// the vulnerability database. With a new database images are looked up again, not
// read. The [Service] learns of images by asking the catalog for them, and of those
// that somebody asks about at once.
//
// The vulnerability database is Trivy's, and so is the way it is looked up ([vulndb]).
package scanner
