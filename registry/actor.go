package registry

// Actor is on whose behalf a request is made. The gateway authenticates; the
// [Catalog] decides what the actor may do. Over gRPC an Actor is honoured only
// from a peer that is a gateway.
type Actor struct {
	// ID is the authenticated user, or "" for an anonymous actor.
	ID string
	// Groups the user belongs to, as far as authentication knows them.
	Groups []string
	// Claims of the credential that access conditions may ask for.
	Claims map[string]string
}

// Anonymous reports whether nobody has been authenticated.
func (a Actor) Anonymous() bool { return a.ID == "" }
