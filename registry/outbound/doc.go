// Package outbound is the HTTP client for every request that Berth sends to
// somebody else: upstream registries, token services, identity providers,
// webhooks, databases of vulnerabilities. What an answer of such a peer makes us
// do next must not reach into the network that Berth stands in, nor carry a
// secret to a host it is not meant for (CWE-918; CVE-2020-13788, CVE-2026-2376,
// CVE-2020-15157, CVE-2026-33540 and their kin).
//
// The rules hold for the address that is dialled, after names are resolved, for
// each connection, whatever asked for it: a URL, a redirect, a name that resolves
// to something else the next time. See [Rules] for which addresses are reached.
//
// Besides:
//   - only http and https, and http only if [Options.PlainHTTP] says so; never http
//     after https, neither by a redirect nor because https failed;
//   - a URL with a user or password in it, or with a host that is a number in
//     disguise (2130706433, 0x7f.1, 127.1), is refused;
//   - redirects are bounded; one to another origin takes only headers that are
//     harmless with it, and no body; there is never a Referer;
//   - the header of an answer is bounded, its body if [Options.MaxBody] says so,
//     and a transfer in which nothing moves is given up. No transfer has a time
//     limit as a whole;
//   - no cookies, no transparent decompression: bytes arrive as they were sent;
//   - proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
//     The address behind a proxy is the proxy's to check; names and addresses in
//     URLs are checked all the same.
//
// Two peers of Berth are not reached through this package, because the operator
// names them and nothing that they answer makes Berth go elsewhere: the endpoint of
// S3, and the collector of traces. The drivers of both follow no redirects to other
// hosts.
package outbound
