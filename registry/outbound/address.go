package outbound

import (
	"encoding/binary"
	"net/netip"
)

// class says what an address reaches, from harmless to worst.
type class int

const (
	public   class = iota
	private        // networks of a site: RFC 1918, RFC 6598, RFC 4193
	loopback       // this machine
	never          // link-local, cloud metadata, multicast, reserved: no registry is there
)

func (c class) String() string {
	return [...]string{"public", "private", "loopback", "link-local, metadata or reserved"}[c]
}

// networks of each class; what is in none of them is public. Those of IANA's
// registries of special-purpose addresses that are not globally reachable, and
// what clouds use inside.
var networks = []struct {
	prefix netip.Prefix
	class  class
}{
	{netip.MustParsePrefix("127.0.0.0/8"), loopback},
	{netip.MustParsePrefix("::1/128"), loopback},

	{netip.MustParsePrefix("100.100.100.200/32"), never}, // metadata of Alibaba Cloud, in RFC 6598
	{netip.MustParsePrefix("168.63.129.16/32"), never},   // Azure's wire server, else public
	{netip.MustParsePrefix("fd00:ec2::254/128"), never},  // metadata of AWS, in RFC 4193
	{netip.MustParsePrefix("fd20:ce::254/128"), never},   // metadata of Google Cloud
	{netip.MustParsePrefix("fd00:42::42/128"), never},    // metadata of Scaleway

	{netip.MustParsePrefix("10.0.0.0/8"), private},
	{netip.MustParsePrefix("172.16.0.0/12"), private},
	{netip.MustParsePrefix("192.168.0.0/16"), private},
	{netip.MustParsePrefix("100.64.0.0/10"), private},
	{netip.MustParsePrefix("fc00::/7"), private},
	{netip.MustParsePrefix("fec0::/10"), private}, // site-local, deprecated

	{netip.MustParsePrefix("0.0.0.0/8"), never},
	{netip.MustParsePrefix("169.254.0.0/16"), never},
	{netip.MustParsePrefix("192.0.0.0/24"), never}, // Oracle's metadata is in it
	{netip.MustParsePrefix("192.0.2.0/24"), never},
	{netip.MustParsePrefix("198.18.0.0/15"), never},
	{netip.MustParsePrefix("198.51.100.0/24"), never},
	{netip.MustParsePrefix("203.0.113.0/24"), never},
	{netip.MustParsePrefix("224.0.0.0/3"), never}, // multicast, class E, broadcast
	{netip.MustParsePrefix("::/128"), never},
	{netip.MustParsePrefix("fe80::/10"), never},
	{netip.MustParsePrefix("ff00::/8"), never},
	{netip.MustParsePrefix("100::/64"), never},
	{netip.MustParsePrefix("2001:db8::/32"), never},
}

// classify returns the class of an address. An IPv6 address that carries an IPv4
// one in it is at least of that one's class: a translator or relay may send what
// goes there to it.
func classify(a netip.Addr) class {
	if a.Zone() != "" {
		return never
	}
	a = a.Unmap()
	worst := public
	for _, n := range networks {
		if n.prefix.Contains(a) {
			worst = n.class
			break
		}
	}
	if inner, ok := carried(a); ok {
		worst = max(worst, classify(inner))
	}
	return worst
}

// carriers are prefixes of IPv6 addresses that hold an IPv4 address from a byte on.
var carriers = []struct {
	prefix netip.Prefix
	at     int
	invert bool
}{
	{netip.MustParsePrefix("::/96"), 12, false},           // IPv4-compatible, deprecated
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, false}, // IPv4-translated, RFC 2765
	{netip.MustParsePrefix("64:ff9b::/96"), 12, false},    // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, false},  // local NAT64, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2, false},        // 6to4, RFC 3056
	{netip.MustParsePrefix("2001::/32"), 12, true},        // Teredo, RFC 4380
}

// carried returns the IPv4 address in an IPv6 one.
func carried(a netip.Addr) (netip.Addr, bool) {
	if a.Is4() || a == netip.IPv6Loopback() || a == netip.IPv6Unspecified() {
		return netip.Addr{}, false
	}
	b := a.As16()
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			v4 := [4]byte(b[c.at : c.at+4])
			if c.invert {
				binary.BigEndian.PutUint32(v4[:], ^binary.BigEndian.Uint32(v4[:]))
			}
			return netip.AddrFrom4(v4), true
		}
	}
	// ISATAP (RFC 5214): the second half of the address is 0000:5efe or 0200:5efe
	// and the IPv4 address.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return netip.AddrFrom4([4]byte(b[12:16])), true
	}
	return netip.Addr{}, false
}
