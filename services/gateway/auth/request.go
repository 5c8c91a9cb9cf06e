package auth

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// maxCredential bounds user name and password together, in bytes. Longer ones are
// wrong without a look at them.
const maxCredential = 16 << 10

// Request is what a client brought to say who it is, and what it wants.
type Request struct {
	// HTTP is the request itself, for cookies and for what else a method needs. Its
	// body must not be read.
	HTTP *http.Request
	// Basic holds user name and password, nil if there are none.
	Basic *Basic
	// Bearer is the token of "Authorization: Bearer", "" if there is none.
	Bearer string
	// Certificate is the client's, verified by the handshake; nil if there is none.
	Certificate *x509.Certificate
	// UI reports whether zot's web UI asks, which wants a session and no challenge.
	UI bool
	// Source tells clients apart that have not said who they are: an address, an
	// IPv6 network, or "" behind a unix socket.
	Source string
	// Wants is what is asked for.
	Wants Wants

	guessed func() error // see guesses; nil: nobody counts
}

// guesses returns [registry.ErrTooManyRequests] if there have been too many wrong
// passwords by now for the one that the request brings to be looked at.
func (q *Request) guesses() error {
	if q.guessed == nil {
		return nil
	}
	return q.guessed()
}

// Basic is a user name and password.
type Basic struct {
	User, Password string
}

// Wants is what a request asks for, as far as its path and method say so.
type Wants struct {
	// Repo is the repository, "" for paths that are not about one.
	Repo registry.Name
	// Actions are the scopes of docker's tokens that the request needs: "pull",
	// "push", "delete"; for a list of repositories, "*".
	Actions []string
	// Base reports whether it is GET /v2/, by which clients see whether they are
	// asked for credentials.
	Base bool
	// Search reports whether it is a search, which the web UI makes.
	Search bool
	// Narrow reports that the request came with a token that is not good for this.
	Narrow bool
	// Open reports whether everybody may have it, as the description of the server.
	Open bool
}

// read takes r apart. [registry.ErrUnauthorized] says that it is malformed.
func read(r *http.Request, w Wants) (*Request, error) {
	q := &Request{HTTP: r, Wants: w, Source: Source(r.RemoteAddr), UI: r.Header.Get("X-Zot-Api-Client") == "zot-ui"}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && len(r.TLS.VerifiedChains[0]) > 0 {
		q.Certificate = r.TLS.VerifiedChains[0][0]
	}
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return q, refused("more than one Authorization header")
	}
	if len(headers) == 0 || headers[0] == "" {
		return q, nil
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case strings.EqualFold(scheme, "basic"):
		b, err := parseBasic(rest)
		if err != nil {
			return q, err
		}
		// docker sends a colon when it has no credentials.
		if *b != (Basic{}) {
			q.Basic = b
		}
		return q, nil
	case strings.EqualFold(scheme, "bearer"):
		if q.Bearer = rest; q.Bearer == "" {
			return q, refused("the bearer token is empty")
		}
		return q, nil
	}
	return q, refused("the Authorization scheme is neither Basic nor Bearer")
}

// parseBasic reads the credentials of RFC 7617.
func parseBasic(text string) (*Basic, error) {
	if len(text) > base64.StdEncoding.EncodedLen(maxCredential) {
		return nil, refused("the credentials are longer than %d bytes", maxCredential)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, refused("the Basic credentials are not base64")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return nil, refused("the Basic credentials have no colon")
	}
	// Names are remembered for long; the password must not stay in memory with them.
	return &Basic{User: strings.Clone(user), Password: password}, nil
}

// Source returns what tells clients apart by their address; see [Request.Source].
func Source(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	switch {
	case err != nil && (remote == "" || remote[0] == '@' || remote[0] == '/'):
		return ""
	case err != nil:
		return remote
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // fails for more bits than there are
	return network.String()
}

// refused is [registry.ErrUnauthorized] with a reason for the log. Clients are
// told the same whatever the reason is.
func refused(format string, args ...any) error {
	return registry.ErrUnauthorized.Because(fmt.Errorf(format, args...))
}
