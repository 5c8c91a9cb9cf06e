package auth

import (
	"context"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// ClaimVia is the claim of an actor that says which method knows the user, if it is a
// [Roster]. Sessions, API keys and tokens that the user makes have it, too: they are
// good as long as the method still has the user.
const ClaimVia = registry.ClaimVia

// Roster is a [Method] that can say whether it still has a user, without a password.
type Roster interface {
	Method
	// Has reports whether a user could log in now, as far as is known without the
	// password. It is asked for each request with a credential of the user's, so it
	// should answer from memory; what it remembers is at most [RosterLife] old. An
	// error means that it can't tell.
	Has(ctx context.Context, user string) (bool, error)
}

// RosterLife is how long the answer of a [Roster] may be remembered: that long the
// credentials of a user who was removed go on working, at most.
const RosterLife = time.Minute

// Via returns the claims of an actor whom the method of a name knows. It is shared,
// never changed.
func Via(name string) map[string]string { return map[string]string{ClaimVia: name} }

// present returns [registry.ErrUnauthorized] for the actor of a credential that was
// made by a user whom the method he came by has no more, or which is there no more.
func (c *Chain) present(ctx context.Context, a registry.Actor) error {
	via := a.Claims[ClaimVia]
	if via == "" || a.ID == "" {
		return nil
	}
	if via == registry.ViaAny {
		return c.presentAnywhere(ctx, a.ID)
	}
	for _, m := range c.o.Basic {
		r, ok := m.(Roster)
		if !ok || m.Name() != via {
			continue
		}
		has, err := r.Has(ctx, a.ID)
		if err == nil && !has {
			err = refused("%s has the user no more", via)
		}
		return err
	}
	return refused("the credential was made by a user of %s, which is not configured any more", via)
}

// presentAnywhere is present for what an operator made for a user: one of the rosters
// must have the user. Where there is none, or users may come with a certificate
// alone, nobody can tell who is gone.
func (c *Chain) presentAnywhere(ctx context.Context, user string) error {
	if len(c.o.Peer) > 0 {
		return nil
	}
	var failed error
	asked := false
	for _, m := range c.o.Basic {
		r, ok := m.(Roster)
		if !ok {
			continue
		}
		asked = true
		switch has, err := r.Has(ctx, user); {
		case has && err == nil:
			return nil
		case err != nil:
			failed = err
		}
	}
	if failed != nil || !asked {
		return failed
	}
	return refused("no password file or directory has the user")
}

// Presence remembers which users there are. It may be used by many goroutines.
type Presence struct {
	life time.Duration
	now  func() time.Time

	mu    sync.Mutex
	known map[string]presence
}

type presence struct {
	has   bool
	until time.Time
}

// maxPresence bounds the users that are remembered.
const maxPresence = 20_000

// NewPresence returns a memory whose answers are good for life.
func NewPresence(life time.Duration) *Presence {
	return &Presence{life: life, now: time.Now, known: make(map[string]presence)}
}

// Ask returns what is remembered of a user, or else what find says. An error of find
// is not remembered.
func (p *Presence) Ask(user string, find func() (bool, error)) (bool, error) {
	began := p.now()
	p.mu.Lock()
	k, ok := p.known[user]
	p.mu.Unlock()
	if ok && began.Before(k.until) {
		return k.has, nil
	}
	has, err := find()
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxPresence {
		clear(p.known)
	}
	p.known[user] = presence{has, began.Add(p.life)}
	return has, nil
}
