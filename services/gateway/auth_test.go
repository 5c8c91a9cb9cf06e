package gateway

import (
	"context"
	"net/http"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// askedBy returns a chain that believes what f says of a request.
func askedBy(f func(*http.Request) (registry.Actor, error)) *auth.Chain {
	return auth.New(auth.Options{
		Closed:    true,
		Anonymous: func() bool { return true },
		Methods:   auth.Methods{Session: []auth.Method{believer(f)}},
	})
}

type believer func(*http.Request) (registry.Actor, error)

func (believer) Name() string { return "test" }

func (f believer) Authenticate(_ context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	a, err := f(q.HTTP)
	return a, auth.Accepted, err
}
