package disk

import (
	"context"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore"
)

// OpenPool is the [blobstore.OpenPool] of pools in a local directory.
func OpenPool(_ context.Context, p config.Pool) (blobstore.Driver, error) {
	d, err := Open(p.RootDirectory, Options{Durable: p.Durable()})
	if err != nil {
		return nil, err // not d: a nil *Driver is no nil Driver
	}
	return d, nil
}
