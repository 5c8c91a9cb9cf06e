package metadata

import "github.com/berth-registry/berth/registry"

// action is what an actor wants to do with a repository.
type action uint8

const (
	actRead action = iota
	actPush
	actDelete
	actAdmin // of the whole store: the repository is ""
)

// access decides who may do what. Every method of [Catalog] with an actor asks
// it first, before anything is read.
type access interface {
	// allow returns nil, [registry.ErrUnauthorized] or [registry.ErrDenied].
	allow(a registry.Actor, repo registry.Name, act action) error
}

// everyone may do everything: the access of a store without access control.
type everyone struct{}

func (everyone) allow(registry.Actor, registry.Name, action) error { return nil }
