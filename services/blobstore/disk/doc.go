// Package disk keeps the blobs of one pool in a directory of a local file
// system. It is a driver for package blobstore.
//
// # Layout
//
// Everything lies under <root>/.berth, a name that no repository can have:
//
//	lock                                     flock'ed while a process uses the root
//	blobs/<alg>/<hex[:2]>/<hex>.<upload id>  a blob; the upload id is its locator
//	blobs/<alg>/<hex[:2]>/<hex>.<upload id>.sums  its checksums, see package blobstore
//	uploads/<upload id>                      the bytes of an upload
//	uploads/<upload id>.state                how far it has come, see record.go
//
// A blob's name holds its digest, so that the names alone tell what is stored.
// Two uploads of the same content make two files; which one is used is decided
// elsewhere.
//
// # Modes
//
// Directories are 0700 and files 0600, whatever the umask: nobody but the
// service reads its store. A .berth that others may write to is refused, since
// they could swap a blob. A group may: Kubernetes' fsGroup sets that. A symbolic
// link in the place of .berth or of a directory in it is refused at the start, and
// one in the place of a file is never followed.
//
// # Durability
//
// Publish syncs the file, renames it, and syncs the directory it is now in;
// directories are synced into their parents before they are used. Data and
// names of an upload become durable in Sync. Nothing else is synced: an upload
// that was never synced may be gone after a loss of power, and a removed blob
// may be back, to be found and removed by the sweep.
package disk
