// Package auth finds out on whose behalf a request is made.
//
// A [Chain] asks its methods in a fixed order, that of zot:
//
//  1. More than one Authorization header is refused.
//  2. A user name and password (Basic) go to each of the password methods:
//     htpasswd, LDAP, API keys. The first that knows them wins; if none does, the
//     request is refused, whatever else it brings.
//  3. A bearer token goes to each of the token methods, in the same way.
//  4. A session cookie.
//  5. A client certificate that the TLS handshake has verified.
//  6. Who brings nothing is anonymous if somebody may be (access control has rules
//     for anonymous clients), and is refused otherwise.
//
// Without any method configured everybody is anonymous, and what they bring is
// not looked at. A chain whose methods were asked for, and are not there, lets
// nobody in.
//
// # What a password costs
//
// Hashing is slow on purpose. Each pair of name and password is hashed once per
// [Remember]: what was found out is kept in memory, by a MAC over method, name,
// password and the generation of the file. Many requests with one pair share one
// hash. Hashes run in a few [Slots], and those who wait for one are bounded, so
// that guesses cost guessers time and nobody else.
package auth
