package config

import (
	"slices"
	"strings"
	"sync"
)

// Status says what becomes of a key that a file uses.
type Status int

// A key with no status of its own has that of the key above it.
const (
	inherit Status = iota
	// Built keys do what they say.
	Built
	// Unneeded keys are zot's; Berth works without them. They are named once,
	// with the reason, and change nothing.
	Unneeded
	// Warned keys belong to features that are not built yet and that nobody is
	// harmed by missing. They are named in one warning.
	Warned
	// Refused keys belong to features that are not built yet, where going on
	// without would open, expose or lose something. They stop the start.
	Refused
)

func (s Status) String() string {
	return [...]string{"inherit", "built", "not needed", "warned", "refused"}[s]
}

// Type says what a key holds.
type Type string

// The types of keys. Decoding is weak, as in zot: "true" is a boolean, a number
// is a string, one value is a list of one.
const (
	Object   Type = "object"
	Map      Type = "map"  // an object with names of the user's choice
	List     Type = "list" // of objects
	Strings  Type = "list of strings"
	Addrs    Type = "string or list of strings" // a comma does not divide it
	String   Type = "string"
	Path     Type = "path"
	URL      Type = "URL"
	SecretT  Type = "secret"
	Duration Type = "duration"
	Bool     Type = "boolean"
	Int      Type = "integer"
	Float    Type = "number"
	DriverT  Type = "driver map"
	SecretsT Type = "map of secrets"
)

// When says which uses of a key count as asking for its feature.
type When int

const (
	byValue     When = iota // scalars that are not zero or empty; of an object, its keys
	whenPresent             // the object or list being there, if it is not turned off or an empty list
	whenEnabled             // the object having "enable": true
	never                   // the key means nothing without another one
)

// Key is a row of the table: one key of the file.
type Key struct {
	// Path is the key's place, such as storage.gcDelay. "*" stands for a name
	// of the user's choice and "[]" for each item of a list.
	Path    string
	Type    Type
	Default string // as one would write it; empty: none, or zero
	Status  Status
	Doc     string // one line

	Values []string // the only values there are, if not nil

	pool bool // also a key of storage.subPaths.*
	lax  bool // unknown keys below it are warned about, not refused
	when When
}

// Keys returns the table: every key of the file, parents before children, with
// its own status filled in.
func Keys() []Key {
	var keys []Key
	keys = append(keys, Key{Path: "distSpecVersion", Type: String, Default: SpecVersion, Status: Built,
		Doc: "Version of the OCI distribution specification. Informational: " + SpecVersion + " is served whatever it says."})
	storage := storageKeys()
	keys = append(keys, storage...)
	for _, k := range storage {
		if k.pool {
			k.Path = strings.Replace(k.Path, "storage.", "storage.subPaths.*.", 1)
			if strings.HasSuffix(k.Path, ".dedupe") || strings.HasSuffix(k.Path, ".gc") {
				k.Default = "false" // as in zot
			}
			keys = append(keys, k)
		}
	}
	keys = append(keys, httpKeys()...)
	keys = append(keys, accessKeys()...)
	keys = append(keys, authKeys()...)
	keys = append(keys, logKeys()...)
	keys = append(keys, extensionKeys()...)
	keys = append(keys, syncKeys()...)
	keys = append(keys, serviceKeys()...)
	keys = append(keys, outboundKeys()...)
	status := make(map[string]Status, len(keys))
	for i, k := range keys {
		if k.Status == inherit {
			keys[i].Status = status[parent(k.Path)]
		}
		status[k.Path] = keys[i].Status
	}
	return keys
}

// parent returns the path of the row above p: a.b for a.b.c, a.b.* and a.b[].c.
func parent(p string) string {
	above, _, _ := cutLast(p)
	return strings.TrimSuffix(above, "[]")
}

func cutLast(p string) (above, name string, ok bool) {
	i := strings.LastIndexByte(p, '.')
	if i < 0 {
		return "", p, false
	}
	return p[:i], p[i+1:], true
}

// spec is a key in the tree the decoder walks.
type spec struct {
	Key
	name  string
	keys  map[string]*spec // of an Object, by lower-case name
	order []string         // the same names as written, in table order
	elem  *spec            // what a Map or a List holds
}

// schema is the table as a tree. It is never changed once built.
var schema = sync.OnceValue(func() *spec {
	root := &spec{Key: Key{Type: Object, Status: Built}, keys: map[string]*spec{}}
	at := map[string]*spec{"": root}
	for _, k := range Keys() {
		s := &spec{Key: k, keys: map[string]*spec{}}
		at[k.Path] = s
		above, name, _ := cutLast(k.Path)
		s.name = name
		up := at[above]
		if up.Type == List {
			up = up.elem
		}
		if name == "*" {
			up.elem = s
			continue
		}
		if k.Type == List { // its items have no row of their own
			item := k
			item.Path, item.Type, item.when = k.Path+"[]", Object, byValue
			s.elem = &spec{Key: item, keys: map[string]*spec{}}
			at[item.Path] = s.elem
		}
		up.keys[strings.ToLower(name)] = s
		up.order = append(up.order, name)
	}
	return root
})

// has reports whether v is one of the key's values, and the way it is written.
func (s *spec) has(v string) (string, bool) {
	i := slices.IndexFunc(s.Values, func(known string) bool { return strings.EqualFold(known, v) })
	if i < 0 {
		return "", false
	}
	return s.Values[i], true
}
