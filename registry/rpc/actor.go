package rpc

import (
	"maps"
	"slices"
	"unicode/utf8"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// actorToWire fails closed: an actor whose name can't be sent may do nothing, and
// a group, claim or grant that can't be sent opens nothing.
func actorToWire(a registry.Actor) (*metadatav1.Actor, error) {
	if !utf8.ValidString(a.ID) {
		return nil, registry.ErrDenied.With("the user's name is not UTF-8")
	}
	w := &metadatav1.Actor{
		Id: a.ID, Claims: claimsToWire(a.Claims), JsonClaims: claimsToWire(a.JSONClaims), Scope: scopeToWire(a.Scope), System: a.System, Ruled: a.Ruled,
	}
	for _, g := range a.Groups {
		if utf8.ValidString(g) {
			w.Groups = append(w.Groups, g)
		}
	}
	if r := a.Request; r != nil {
		w.Request = &metadatav1.ActorRequest{
			Method: text(r.Method), UserAgent: text(r.UserAgent), ClientIp: text(r.ClientIP), ForwardedFor: toStrings(r.ForwardedFor), Tls: text(r.TLS),
		}
	}
	return w, nil
}

func claimsToWire(claims map[string]string) map[string]string {
	for k, v := range claims {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			claims = maps.Clone(claims)
			maps.DeleteFunc(claims, func(k, v string) bool { return !utf8.ValidString(k) || !utf8.ValidString(v) })
			break
		}
	}
	return claims
}

func scopeToWire(scope []registry.Grant) *metadatav1.Scope {
	if scope == nil {
		return nil
	}
	w := new(metadatav1.Scope)
	for _, g := range scope {
		if utf8.ValidString(g.Repositories) {
			w.Grants = append(w.Grants, &metadatav1.Grant{Repositories: g.Repositories, Actions: g.Actions.Names()})
		}
	}
	return w
}

func actorFromWire(a *metadatav1.Actor) registry.Actor {
	actor := registry.Actor{
		ID: a.GetId(), Groups: a.GetGroups(), Claims: a.GetClaims(), JSONClaims: a.GetJsonClaims(), Scope: scopeFromWire(a.GetScope()), System: a.GetSystem(), Ruled: a.GetRuled(),
	}
	if r := a.GetRequest(); r != nil {
		actor.Request = &registry.ActorRequest{
			Method: r.GetMethod(), UserAgent: r.GetUserAgent(), ClientIP: r.GetClientIp(), ForwardedFor: r.GetForwardedFor(), TLS: r.GetTls(),
		}
	}
	return actor
}

func scopeFromWire(s *metadatav1.Scope) []registry.Grant {
	if s == nil {
		return nil
	}
	scope := make([]registry.Grant, 0, len(s.GetGrants()))
	for _, g := range s.GetGrants() {
		scope = append(scope, registry.Grant{Repositories: g.GetRepositories(), Actions: actionsFromWire(g.GetActions())})
	}
	return slices.Clip(scope)
}

// actionsFromWire leaves out actions that only a newer peer knows.
func actionsFromWire(names []string) registry.Actions {
	var all registry.Actions
	for _, n := range names {
		if a, err := registry.ParseActions([]string{n}); err == nil {
			all |= a
		}
	}
	return all
}
