package outbound

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Rules say which addresses requests may reach. The zero value reaches public ones
// only, and see [Options.Named].
//
//   - Public addresses are always reached.
//   - Private ones (RFC 1918, RFC 6598, RFC 4193) if the configuration names the
//     host, or another of its registrable domain, unless the rules are strict.
//   - This machine if the configuration names localhost or that very address, with
//     that port, unless the rules are strict.
//   - Link-local addresses, the metadata services of clouds and reserved addresses
//     never, unless their network is listed.
//   - What is listed is reached, strict or not.
type Rules struct {
	networks []netip.Prefix
	hosts    []pattern
	strict   bool
}

// pattern is an entry of the list that is a name.
type pattern struct {
	host string // lower case, without a last dot; with below: what stands behind "*"
	port string // "" is any
	all  bool   // every name below host
}

// ParseRules makes rules of a list of networks (10.0.0.0/8, fd00::/8), addresses,
// and hosts: host, host:port or *.domain. strict gives names in the configuration
// no privilege. The error names the entry that is none of these.
func ParseRules(allow []string, strict bool) (Rules, error) {
	r := Rules{strict: strict}
	for _, entry := range allow {
		if p, err := netip.ParsePrefix(entry); err == nil {
			r.networks = append(r.networks, p.Masked())
			continue
		}
		if a, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil && a.Zone() == "" {
			a = a.Unmap()
			r.networks = append(r.networks, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p := pattern{host: entry}
		if host, port, err := net.SplitHostPort(entry); err == nil {
			p.host, p.port = host, port
		}
		p.host = canonical(p.host)
		if rest, ok := strings.CutPrefix(p.host, "*"); ok {
			p.host, p.all = rest, true
		}
		if !validPattern(p) {
			return Rules{}, fmt.Errorf("%q is not a network, an address, a host, host:port or *.domain", entry)
		}
		r.hosts = append(r.hosts, p)
	}
	return r, nil
}

func validPattern(p pattern) bool {
	name := p.host
	if p.all {
		var dot bool
		if name, dot = strings.CutPrefix(name, "."); !dot {
			return false
		}
	}
	if p.port != "" && strings.Trim(p.port, "0123456789") != "" {
		return false
	}
	return name != "" && len(name) <= maxHost && !strings.ContainsAny(name, "/*:@?#[]%\\ ") && !disguised(name)
}

// allowsAddr reports whether an address is listed.
func (r Rules) allowsAddr(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range r.networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allowsHost reports whether a host is listed by its name.
func (r Rules) allowsHost(host, port string) bool {
	for _, p := range r.hosts {
		if p.port != "" && p.port != port {
			continue
		}
		if host == p.host && !p.all || p.all && strings.HasSuffix(host, p.host) {
			return true
		}
	}
	return false
}

// named are the hosts that the configuration names.
type named struct {
	hosts map[string]bool // without ports
	ports map[string]bool // host and port
	sites map[string]bool // registrable domains of the hosts
}

func nameHosts(urls []string) (named, error) {
	n := named{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, text := range urls {
		u, err := parse(text)
		if err != nil {
			return named{}, err
		}
		host, port := hostPort(u)
		n.hosts[host] = true
		n.ports[net.JoinHostPort(host, port)] = true
		if s := site(host); s != "" {
			n.sites[s] = true
		}
	}
	return n, nil
}

// permits reports whether a request to host may go to an address.
func (c *Client) permits(host, port string, a netip.Addr) bool {
	cl := classify(a)
	if cl == public || c.rules.allowsAddr(a) {
		return true
	}
	if cl == never {
		return false
	}
	if c.rules.allowsHost(host, port) {
		return true
	}
	if c.rules.strict {
		return false
	}
	literal, err := netip.ParseAddr(host)
	isLiteral := err == nil && literal.Unmap() == a.Unmap()
	if cl == loopback {
		// Much listens here that trusts whoever reaches it, so the port counts.
		return (isLiteral || local(host)) && c.named.ports[net.JoinHostPort(host, port)]
	}
	return c.named.hosts[host] || err != nil && c.named.sites[site(host)]
}

// local reports whether a name is of this machine by RFC 6761.
func local(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
