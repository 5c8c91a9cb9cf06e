package syncer

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// Served implements [registry.Puller]: the bytes count for the rule that says what the
// repository is. What was pushed would not have come from an upstream.
func (s *Service) Served(ctx context.Context, all []registry.Served) error {
	if err := registry.CheckServed(all); err != nil {
		return err
	}
	for _, x := range all {
		targets := s.targets(x.Repository)
		if len(targets) == 0 {
			continue
		}
		r := mirrorRule(targets)
		if !r.pulls() {
			continue
		}
		claimed, err := s.isClaimed(ctx, x.Repository)
		if err != nil {
			return err
		}
		if !claimed {
			r.state.saved.Add(x.Bytes)
		}
	}
	return nil
}
