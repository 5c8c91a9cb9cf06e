package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// docker is the method "bearer": tokens of a token server elsewhere, as docker's
// "Token Authentication Implementation" has them. What may be done stands in the
// token, so access control is not asked: the server that signed it has decided.
type docker struct {
	keys    []Key
	ring    *keyring // if not nil: keys come from there, and a token must name its own
	service string
	known   verified[dockerToken]
	log     *slog.Logger
	now     func() time.Time
}

// dockerToken is what a verified token allows.
type dockerToken struct {
	subject string
	access  []access
}

// access is an entry of the access claim.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// OpenBearer returns the method. Tokens must be signed with a key of the file, PEM,
// and made for service.
func OpenBearer(file, service string, e auth.Env) (auth.Method, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cert: %w", err)
	}
	keys, err := ParsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("cert: %s: %w", file, err)
	}
	return &docker{keys: keys, service: service, log: e.Log.With("method", "bearer"), now: time.Now}, nil
}

// Name implements [auth.Method].
func (d *docker) Name() string { return "bearer" }

// Authenticate implements [auth.Method]. A token that is good, but not for what is
// asked, is refused like one that is none, so that the client gets another by the
// challenge.
func (d *docker) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	t, err := d.verify(ctx, q.Bearer)
	if errors.Is(err, registry.ErrUnavailable) {
		return registry.Actor{}, auth.Unknown, err
	}
	if err != nil {
		d.log.Debug("a token is refused", "reason", err.Error())
		return registry.Actor{}, auth.Unknown, nil
	}
	if !t.allows(q.Wants) {
		return registry.Actor{}, auth.Unknown, registry.ErrUnauthorized.With("the token is not good for this")
	}
	return t.actor(), auth.Accepted, nil
}

// keysFor returns the keys that a token may be signed with, and the number of their set.
func (d *docker) keysFor(ctx context.Context, p *parsed) ([]Key, int, error) {
	if d.ring == nil {
		return d.keys, 0, nil
	}
	if p.kid == "" {
		return nil, 0, errors.New("the token does not name its key")
	}
	all, generation, err := d.ring.current(ctx, func(keys []Key) bool {
		return slices.ContainsFunc(keys, func(k Key) bool { return k.ID == p.kid })
	})
	if err != nil {
		return nil, 0, registry.ErrUnavailable.With("the keys that verify tokens can't be had").Because(err)
	}
	return all, generation, nil
}

func (d *docker) verify(ctx context.Context, token string) (dockerToken, error) {
	now := d.now()
	p, err := split(token)
	if err != nil {
		return dockerToken{}, err
	}
	keys, generation, err := d.keysFor(ctx, p)
	if err != nil {
		return dockerToken{}, err
	}
	if t, ok := d.known.get(token, generation, now); ok {
		return t, nil
	}
	c, err := p.verify(keys, []string{d.service}, now)
	if err != nil {
		return dockerToken{}, err
	}
	t := dockerToken{subject: c.text("sub")}
	list, err := json.Marshal(c["access"])
	if err == nil {
		err = json.Unmarshal(list, &t.access)
	}
	if err != nil {
		return dockerToken{}, fmt.Errorf("the access claim: %w", err)
	}
	until, _ := c.time("exp")
	d.known.put(token, generation, t, until.Add(leeway))
	return t, nil
}

// allows reports whether the token is good for a request, as far as its path tells.
func (t dockerToken) allows(w auth.Wants) bool {
	for _, action := range w.Actions {
		if !slices.ContainsFunc(t.access, func(a access) bool {
			switch {
			case w.Repo == "":
				return a.Type == "registry" && a.Name == "catalog" && slices.Contains(a.Actions, "*")
			case a.Type != "repository" || a.Name != string(w.Repo):
				return false
			}
			return slices.Contains(a.Actions, action) || slices.Contains(a.Actions, "*")
		}) {
			return false
		}
	}
	return true
}

// meanings of docker's actions.
var meanings = map[string]registry.Actions{
	"pull":   registry.ActRead,
	"push":   registry.ActCreate | registry.ActUpdate,
	"delete": registry.ActDelete,
	"*":      registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete,
}

// nameless is who shows a token without a subject: some servers issue such to
// clients that have not logged in.
const nameless = "bearer"

// actor returns on whose behalf the token is shown: as the installation itself, with
// no right but those of the token.
func (t dockerToken) actor() registry.Actor {
	a := registry.Actor{ID: t.subject, System: true, Scope: make([]registry.Grant, 0, len(t.access))}
	if a.ID == "" {
		a.ID = nameless
	}
	for _, x := range t.access {
		var good registry.Actions
		for _, action := range x.Actions {
			good |= meanings[action]
		}
		switch {
		case x.Type == "registry" && x.Name == "catalog" && slices.Contains(x.Actions, "*"):
			a.Scope = append(a.Scope, registry.Grant{Repositories: "**", Actions: registry.ActList})
		case x.Type == "repository":
			// A name, not a pattern.
			if name, err := registry.ParseName(x.Name); err == nil && good != 0 {
				a.Scope = append(a.Scope, registry.Grant{Repositories: string(name), Actions: good})
			}
		}
	}
	return a
}
