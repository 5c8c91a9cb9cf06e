package auth

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth/htpasswd"
)

// How long what a password file says is remembered. A file that changes is asked
// anew at once.
const (
	htpasswdYes = 10 * time.Minute
	htpasswdNo  = time.Minute
)

// passwordFile is the method "htpasswd".
type passwordFile struct {
	file  *htpasswd.Follower
	known *Remember
	slots *Slots
}

// OpenHTPasswd returns the method that knows the users of a file. The file must be
// there and right; a later one that is not leaves this one active.
func OpenHTPasswd(path string, e Env) (Method, error) {
	f, err := htpasswd.Follow(path, e.Log)
	if err != nil {
		return nil, err
	}
	return &passwordFile{file: f, known: NewRemember("htpasswd", htpasswdYes, htpasswdNo), slots: e.Slots}, nil
}

func (m *passwordFile) Name() string { return "htpasswd" }

var viaFile = Via("htpasswd")

// Has implements [Roster]: a change of the file counts a second later.
func (m *passwordFile) Has(_ context.Context, user string) (bool, error) {
	return m.file.Current().Has(user), nil
}

// Known implements [Knower].
func (m *passwordFile) Known(q *Request) bool {
	users := m.file.Current()
	return m.known.Known(q.Basic.User, q.Basic.Password, users.Generation())
}

// Authenticate implements [Method]. It costs one hash, or none if the answer is
// known, whether there is such a user or not.
func (m *passwordFile) Authenticate(ctx context.Context, q *Request) (registry.Actor, Verdict, error) {
	b, users := q.Basic, m.file.Current()
	a, err := m.known.Ask(ctx, b.User, b.Password, users.Generation(), func(ctx context.Context) (a registry.Actor, err error) {
		err = m.slots.Login(ctx, q, func() {
			if users.Verify(b.User, b.Password) {
				a.ID, a.Claims = b.User, viaFile
			}
		})
		return a, err
	})
	if err != nil || a.ID == "" {
		return registry.Actor{}, Unknown, err
	}
	return a, Accepted, nil
}
