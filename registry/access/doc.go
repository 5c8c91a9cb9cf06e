// Package access decides who may do what: [registry.AccessRules], compiled once,
// together with what a credential is limited to. A catalog asks it before it reads
// anything.
package access
