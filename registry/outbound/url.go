package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// parse reads an absolute URL that may be requested. Its error says nothing of the
// URL: it may come from a peer and hold a secret.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	return u, check(u)
}

const (
	maxURL  = 16 << 10 // bounds a URL; presigned ones have some 2 KiB
	maxHost = 260      // bounds a host with its port, in bytes
)

// check reports what is wrong with a URL, whatever the rules.
func check(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the scheme must be https or http")
	case u.User != nil:
		return errors.New("a user or password in a URL is not accepted")
	case u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return errors.New("the URL has no host")
	case len(u.Host) > maxHost || len(u.RequestURI()) > maxURL:
		return errors.New("the URL is too long")
	}
	host := canonical(u.Hostname())
	switch {
	case host == "": // "." is the root of all names
		return errors.New("the URL has no host")
	case strings.Contains(host, "%"):
		return errors.New("an address with a zone is not accepted")
	case strings.Contains(host, ":"):
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return errors.New("the host is not a name or address")
		}
	case disguised(host):
		return errors.New("the host is a number in disguise")
	case strings.ContainsAny(host, "/\\@?#[]* \t\r\n\x00"):
		return errors.New("the host is not a name or address")
	}
	return nil
}

// canonical returns a host as it is compared: in lower case, ASCII, without the
// last dot, and addresses as [netip.Addr.String] writes them.
func canonical(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	// What is longer is no name anyway (RFC 1035 2.3.4), and idna takes a time that
	// grows with the square of the length.
	if len(host) > maxHost {
		return host
	}
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		return ascii
	}
	return host
}

// disguised reports whether a host is a number that resolvers take for an IPv4
// address (inet_aton, WHATWG URL 3.5) and that is not written as one.
func disguised(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return host != "" // ends in two dots
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// hostPort returns the host of a URL as it is compared, and the port, that of the
// scheme if it has none.
func hostPort(u *url.URL) (host, port string) {
	port = u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return canonical(u.Hostname()), port
}

// Origin returns scheme, host and port of a URL in one comparable string, such as
// "https://registry.example.com:443". Credentials belong to an origin (RFC 6454),
// never to a name alone.
func Origin(u *url.URL) string {
	host, port := hostPort(u)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host + ":" + port
}

// ErrOrigin is the error of [SameOrigin] and of what peers send that leads elsewhere.
var ErrOrigin = errors.New("the peer points to another host")

// SameOrigin resolves a reference that a peer sent (a Location of an upload, a Link
// to the next page) against the URL it answered for. A reference to another
// origin is [ErrOrigin]: what follows it carries our credentials.
func SameOrigin(base *url.URL, ref string) (*url.URL, error) {
	if len(ref) > maxURL {
		return nil, errors.New("the URL is too long")
	}
	r, err := url.Parse(ref)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	u := base.ResolveReference(r)
	u.Fragment, u.RawFragment = "", ""
	if err := check(u); err != nil {
		return nil, err
	}
	if Origin(u) != Origin(base) {
		return nil, ErrOrigin
	}
	return u, nil
}

// SameSite reports whether two hosts are of one registrable domain, such as
// auth.docker.io and registry-1.docker.io. Addresses are sites of their own. Hosts
// may have a port.
func SameSite(a, b string) bool {
	a, b = bare(a), bare(b)
	if a == b {
		return a != ""
	}
	s := site(a)
	return s != "" && s == site(b)
}

// bare returns the host of host or host:port as it is compared.
func bare(s string) string {
	return canonical((&url.URL{Host: s}).Hostname())
}

// site returns the registrable domain of a name, "" for addresses and for public
// suffixes themselves.
func site(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
		return ""
	}
	s, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return s
}

// show returns what may be told of a URL: no query, no user.
func show(u *url.URL) string {
	return fmt.Sprintf("%s://%s%s", u.Scheme, u.Host, u.EscapedPath())
}
