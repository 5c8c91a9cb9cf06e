// Package identity is what clients log in with besides passwords: the token
// service of docker's Bearer flow, API keys, logins in the browser at OpenID
// Connect providers and GitHub, their sessions, and logins of programs by device
// code. What it must remember is in the Catalog, so that all gateways know the
// same; it keeps copies for seconds only.
package identity
