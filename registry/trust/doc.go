// Package trust verifies signatures of images: those that cosign and notation store
// beside them in a registry, against keys and certificates that an administrator
// uploaded, or authorities and logs of the config file. It uses the standard library
// only, and asks nobody else: no revocation list and no time stamp counts.
//
// A signature is trusted only if everything about it was understood and is right;
// whatever can't be read, is unknown or too large is not.
package trust
