package registry

import (
	"context"
	"maps"
	"strings"
)

// Claims that say how an actor came in. They are of the moment: what the actor makes
// does not have them, see [LastingClaims].
const (
	// ClaimBy is "key" for the actor of an API key and "session" for that of a
	// session. Others have none.
	ClaimBy = "berth.by"
	// ClaimUntil is when the API key ends, in microseconds since 1970. Absent: never.
	ClaimUntil = "berth.until"
)

// ClaimVia is the claim of an actor that says which method of authentication knows the
// user, if it is one that can say whether it still does. What the user makes has it,
// too, and is good as long as that method has the user. [ViaAny] stands for whichever
// has.
const (
	ClaimVia = "berth.via"
	ViaAny   = "*"
)

// MadeFor returns the claims of a new credential c that a makes: an API key that somebody
// makes for another user ends with that user, as the user's own do, so it gets ClaimVia.
func MadeFor(a Actor, c Credential) map[string]string {
	if c.Kind != APIKey || a.ID == c.Owner && !a.System || c.Claims[ClaimVia] != "" {
		return c.Claims
	}
	claims := maps.Clone(c.Claims)
	if claims == nil {
		claims = make(map[string]string, 1)
	}
	claims[ClaimVia] = ViaAny
	return claims
}

// OwnedBy returns the claims of a credential that is used, by its owner as he is known
// now: service accounts log in nowhere, and who has logged in at a provider (elsewhere)
// is in no password file or directory, so nobody there says that they are gone.
func OwnedBy(claims map[string]string, owner User, elsewhere bool) map[string]string {
	if claims[ClaimVia] != ViaAny || !owner.Service && !elsewhere {
		return claims
	}
	claims = maps.Clone(claims)
	delete(claims, ClaimVia)
	return claims
}

// ClaimedBy returns the claims of a credential that was nobody's and is a's from now on:
// those of a that last, so that it ends with a as all does that a makes, and its own,
// which a can't change.
func ClaimedBy(claims map[string]string, a Actor) map[string]string {
	all := make(map[string]string, len(claims)+len(a.Claims))
	maps.Copy(all, LastingClaims(a.Claims))
	maps.Copy(all, claims)
	return all
}

// LastingClaims returns the claims that what an actor makes has, too. It returns the
// same map if that is all of them.
func LastingClaims(claims map[string]string) map[string]string {
	if claims[ClaimBy] == "" && claims[ClaimUntil] == "" {
		return claims
	}
	claims = maps.Clone(claims)
	delete(claims, ClaimBy)
	delete(claims, ClaimUntil)
	return claims
}

// FindUser returns the user of a name, as an administrator sees him; not ok if there
// is none.
func FindUser(ctx context.Context, from Identities, a Actor, id string) (u User, ok bool, err error) {
	p := Page[string]{After: justBefore(id), Limit: 100}
	for {
		list, err := from.Users(ctx, a, p)
		if err != nil {
			return User{}, false, err
		}
		for _, u := range list.Items {
			if u.ID >= id {
				if u.ID != id {
					u = User{}
				}
				return u, u.ID != "", nil
			}
			p.After = u.ID
		}
		if !list.More || len(list.Items) == 0 {
			return User{}, false, nil
		}
	}
}

// justBefore returns a text that is before id in byte order, with little in between:
// bob11 is behind it and before bob2.
func justBefore(id string) string {
	if id == "" {
		return ""
	}
	last := id[len(id)-1]
	if last <= ' '+1 {
		return id[:len(id)-1]
	}
	return strings.ToValidUTF8(id[:len(id)-1]+string(rune(last-1)), "")
}
