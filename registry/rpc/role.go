package rpc

import "strings"

// Role is what a program does in an installation, or a set of such. A
// certificate may name several: that of a program which links several services.
type Role uint8

// The roles. Automation is a client of the gRPC API that is no service.
const (
	Gateway Role = 1 << iota
	Blobstore
	Metadata
	Syncer
	Scanner
	Automation
)

const (
	noRole   Role = 0
	services      = Gateway | Blobstore | Metadata | Syncer | Scanner
	anybody       = services | Automation
)

var roleNames = []string{"gateway", "blobstore", "metadata", "syncer", "scanner", "automation"}

// String returns the names of the roles.
func (r Role) String() string {
	var names []string
	for i, n := range roleNames {
		if r&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// roleNamed returns the names by which certificates show each role.
type roleNamed map[Role][]string

// of returns the roles that the names of a certificate show, and the first name
// that shows one.
func (r roleNamed) of(names []string) (roles Role, name string) {
	for _, n := range names {
		if strings.Contains(n, "*") {
			continue // a certificate for any name says who nobody is
		}
		for role, patterns := range r {
			for _, p := range patterns {
				if !matches(p, n) {
					continue
				}
				roles |= role
				if name == "" {
					name = n
				}
			}
		}
	}
	return roles, name
}

// matches reports whether a name of a certificate is one that the pattern p
// means: "*" is every one, "*.domain" all that have one label more, "scheme://a/*"
// all URIs below a, and everything else itself. Letter case counts in URIs only.
func matches(p, name string) bool {
	uri := strings.Contains(name, "://")
	switch {
	case p == "*":
		return true
	case uri && strings.Contains(p, "://") && strings.HasSuffix(p, "/*"):
		prefix := p[:len(p)-1]
		return strings.HasPrefix(name, prefix) && len(name) > len(prefix)
	case uri:
		return p == name
	case strings.HasPrefix(p, "*."):
		label, domain, ok := strings.Cut(name, ".")
		return ok && label != "" && strings.EqualFold(domain, p[2:])
	}
	return strings.EqualFold(p, name)
}
