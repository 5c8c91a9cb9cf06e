// Package htpasswd reads and writes files of user names and password hashes, as
// Apache's htpasswd(1) makes them: a line name:hash for each user; empty lines and
// those that begin with # do not count.
//
// Hashes are bcrypt ($2a$, $2b$, $2y$), and SHA-256 ($5$) and SHA-512 ($6$) crypt.
// A file with any other, one that is too costly to check, a name twice, or more
// than [MaxFile] bytes is not used at all: a file that is wrong somewhere may be
// wrong anywhere.
package htpasswd
