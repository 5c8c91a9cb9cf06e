package registry

import "context"

// Actor is on whose behalf a request is made. The gateway authenticates; the
// [Catalog] decides what the actor may do. Over gRPC an Actor is honoured only
// from a peer that is a gateway.
type Actor struct {
	// ID is the authenticated user, or "" for an anonymous actor.
	ID string
	// Groups the user belongs to, as far as authentication knows them.
	Groups []string
	// Claims of the credential that access conditions may ask for: those that are
	// text, and in JSONClaims those that are something else, as JSON text.
	Claims, JSONClaims map[string]string
	// Scope is what the credential is good for, whatever its owner may do: the
	// actor may do what both allow. nil: the credential sets no limit. Not nil and
	// empty: nothing at all.
	Scope []Grant
	// Request is how the actor asks, for access conditions. nil: that is not known.
	// Shared, never changed.
	Request *ActorRequest
	// Ruled says that the actor has only the rights that access rules give: whoever
	// authenticated it goes by a configuration with rules, or it is a client of the
	// gRPC API that is no service. A catalog that has no rules refuses then: it would
	// let everybody do everything.
	Ruled bool
	// System is set for the installation itself: its services, and those who may
	// open its control socket. It may do everything.
	System bool
}

// Anonymous reports whether nobody has been authenticated.
func (a Actor) Anonymous() bool { return a.ID == "" && !a.System }

// Grant lets a credential be used for some actions on some repositories.
type Grant struct {
	// Repositories is a pattern, see package glob; a plain name is one, too. One
	// that is malformed matches nothing.
	Repositories string
	// Actions that are allowed. [ActAdmin] and [ActMetrics] count only where Repositories
	// is "**".
	Actions Actions
}

// ActorRequest is what access conditions may ask of a request besides what is
// asked for. All of it but Method and TLS is the client's word, or a proxy's.
type ActorRequest struct {
	Method    string // of HTTP
	UserAgent string
	ClientIP  string // the address of the connection's other end, without port
	// ForwardedFor are the addresses in X-Forwarded-For. Anybody can write them.
	ForwardedFor []string
	TLS          string // version as in "1.3", "" for plaintext
}

type actorKey struct{}

// WithActor returns a context for a request on whose behalf a has been found out.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorFrom returns the actor of a context; not ok if nobody has asked who it is.
func ActorFrom(ctx context.Context) (a Actor, ok bool) {
	a, ok = ctx.Value(actorKey{}).(Actor)
	return a, ok
}
