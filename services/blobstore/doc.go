// Package blobstore owns bytes: it stores immutable content and the upload
// sessions content arrives in, and implements [registry.Blobs].
//
// It knows nothing of names, rights or references. Which copies are wanted, and
// where each lies, is known to the [registry.Catalog].
//
// [Store] holds the policy, once for every kind of storage: it hashes bytes
// while they arrive, checks offsets, lets one call at a time into a session,
// decides when state is saved, expires sessions, and stops writing to a pool
// whose storage has lost data. A [Driver] moves bytes. Package disk is the one
// for a local file system.
//
// # Order of acknowledgement
//
// Commit answers after: bytes written and hashed, the file synced, the file
// published under its digest, the publication synced. The last three are the
// driver's, see [UploadFile.Publish].
//
// # Failed syncs
//
// After a sync that failed, the kernel may have dropped the bytes and forgotten
// about it: a later sync that succeeds proves nothing. So a failed sync is never
// repeated. The upload it concerned is discarded, the pool refuses writes until
// the process is started again, and reads go on.
package blobstore
