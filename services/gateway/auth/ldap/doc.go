// Package ldap knows the users of an LDAP directory (RFC 4511). It searches for
// the user with an account of its own, then binds as what it found with the
// password given.
//
// Every login that is not remembered costs one search and one bind, whether there
// is such a user or not. Connections are kept and used again. What was verified is
// remembered for a minute, so that a pull of many layers asks the directory once;
// that is also how long a new password, or a lost group, may take to count.
//
// User names are escaped for the filter (RFC 4515). A password that is empty is
// never sent: to a directory that is an anonymous bind, which succeeds (RFC 4513,
// section 5.1.2). A search that finds more than one entry finds nobody.
package ldap
