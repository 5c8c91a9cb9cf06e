package registry

import "strings"

// Name is a repository name (distribution-spec, "Pulling manifests").
type Name string

// MaxName is the length of the longest repository name, in bytes. Clients limit
// host and name together to 255 (distribution-spec, implementors' note), so a
// name of this length is the longest anyone can use.
const MaxName = 255

// ParseName returns s as a Name, or [ErrNameInvalid]. A name is one or more
// components joined by "/"; a component is runs of [a-z0-9] joined by one ".",
// one or two "_", or any number of "-".
func ParseName(s string) (Name, error) {
	if s == "" {
		return "", ErrNameInvalid.With("a repository name is needed")
	}
	if len(s) > MaxName {
		return "", ErrNameInvalid.With("repository name is longer than %d bytes", MaxName)
	}
	for part := range strings.SplitSeq(s, "/") {
		if !validComponent(part) {
			return "", ErrNameInvalid.With("repository name components are lower-case letters and digits, joined by one of . _ __ -")
		}
	}
	return Name(s), nil
}

func validComponent(s string) bool {
	alnum := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if alnum(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && !alnum(s[end]) {
			end++
		}
		sep := s[i:end]
		if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
		i = end
	}
	return true
}

// Tag is a human-readable pointer to a manifest (distribution-spec, "Pulling
// manifests"): at most 128 of [A-Za-z0-9._-], the first not "." or "-".
type Tag string

// MaxTag is the length of the longest tag, in bytes.
const MaxTag = 128

// ParseTag returns s as a Tag, or [ErrTagInvalid].
func ParseTag(s string) (Tag, error) {
	if s == "" || len(s) > MaxTag || s[0] == '.' || s[0] == '-' {
		return "", ErrTagInvalid
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return "", ErrTagInvalid
		}
	}
	return Tag(s), nil
}

// Reference names a manifest in a repository: exactly one of its fields is set.
type Reference struct {
	Tag    Tag
	Digest Digest
}

// ParseReference returns s as a Reference. What holds a ":" is a digest and
// never falls back to a tag: a malformed one is [ErrDigestInvalid].
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{Tag: t}, err
}

// String returns the reference as it stands in a URL.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return string(r.Tag)
}
