package auth

import (
	"strconv"
	"strings"
)

// Challenge says how clients are asked for credentials.
type Challenge struct {
	// Realm of a Basic challenge.
	Realm string
	// TokenRealm is the URL of the token server that clients are sent to; "" asks
	// for Basic. It must come from the configuration, never from a request: who
	// could choose it would be sent passwords.
	TokenRealm string
	// Bearer asks for a token though there is no server to get one from: clients have
	// theirs from elsewhere.
	Bearer bool
	// Service is what that server knows us as.
	Service string
}

// value returns the header's value (RFC 9110, section 11.6.1, and docker's token
// specification).
func (c Challenge) value(w Wants) string {
	if c.TokenRealm == "" && !c.Bearer {
		return "Basic realm=" + strconv.Quote(c.Realm)
	}
	realm := c.TokenRealm
	if realm == "" {
		realm = c.Realm
	}
	text := "Bearer realm=" + strconv.Quote(realm) + ",service=" + strconv.Quote(c.Service)
	switch {
	case w.Repo != "":
		text += `,scope="repository:` + string(w.Repo) + ":" + strings.Join(w.Actions, ",") + `"`
	case len(w.Actions) > 0:
		text += `,scope="registry:catalog:*"`
	}
	if w.Narrow {
		text += `,error="insufficient_scope"`
	}
	return text
}
