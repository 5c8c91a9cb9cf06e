// Package s3 keeps the blobs of one pool in a bucket of Amazon S3 or of a server
// that speaks its protocol. It is a driver for package blobstore. Any number of
// processes may use one bucket.
//
// # Layout
//
// Everything lies below <rootdirectory>/.berth, which no repository can be:
//
//	blobs/<alg>/<hex>/<upload id>.<nonce>          a blob whose digest was known first
//	data/<nonce>.<upload id>                       a blob whose digest was not
//	names/<alg>/<hex>/<upload id>.<nonce>.<size>   empty: what the object in data is
//	sums/<alg>/<hex>/<upload id>.<nonce>           checksums of either, if it has several parts
//	uploads/<upload id>/state                      how far an upload has come, or how it ended
//
// A nonce is random and new for each attempt to write. So no object but a state
// is ever overwritten, and whatever a request does that comes late, twice, or
// whose answer got lost, it can't hurt a blob that was acknowledged. No key is
// the directory of another.
//
// # Uploads
//
// An upload is sent in parts of 8 MiB, each a part of a multipart upload, or as
// one object if it is no larger than one part. What does not fill a part yet is
// kept at the end of the state when a call ends: parts can't be read back, and
// the next call may come to another process.
//
// The state is replaced by conditional writes only (If-Match, If-None-Match),
// so that of two processes that continue one upload only one succeeds. There
// is none before the first bytes: an upload id carries a stamp by which every
// process knows that it is one of ours. After the end the state stays, and says
// so, for as long as the id would be believed.
//
// # Durability
//
// What S3 has answered with success it keeps. Publish answers when the object
// is complete, can be found by its digest, and the state says that the upload
// has ended.
package s3
