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
