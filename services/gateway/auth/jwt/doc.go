// Package jwt accepts bearer tokens that others have signed (RFC 7519): docker's
// token servers, whose tokens say what may be done, and OpenID Connect issuers,
// whose tokens say who it is.
//
// A token says nothing of how it is to be checked: which algorithm fits is known
// from the key, and which key from those that the configuration or the issuer's key
// set holds. Keys that are in a token, or that it points to (jwk, jku, x5c, x5u), are
// not looked at (compare CVE-2025-24976); one with critical extensions is refused.
// Encrypted tokens are refused unread.
package jwt
