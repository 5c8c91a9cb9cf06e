package rpc

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// sick is a blobstore that can't serve once it is told so.
type sick struct {
	registry.Blobs
	now atomic.Bool
}

func (s *sick) Check(ctx context.Context) (registry.Health, error) {
	if s.now.Load() {
		return registry.Health{}, errors.New("no disk")
	}
	return s.Blobs.Check(ctx)
}

func TestCheckHealth(t *testing.T) {
	for name, want := range map[string]bool{"well": true, "sick": false} {
		t.Run(name, func(t *testing.T) {
			b := &sick{Blobs: memory.NewBlobs()}
			b.now.Store(!want)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			at := l.Addr().String()
			u := Unit("test", l, NewServer(ServerOptions{}), b)
			ended := make(chan error, 1)
			go func() { ended <- u.Run() }()
			err = CheckHealth(t.Context(), at, DialOptions{})
			if (err == nil) != want {
				t.Errorf("healthy: %v, want %v", err, want)
			}
			if err := u.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err := CheckHealth(t.Context(), at, DialOptions{}); err == nil {
				t.Error("a server that has stopped is healthy")
			}
		})
	}
}
