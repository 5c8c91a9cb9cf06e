package syncer

import "context"

// Tidy does what is done each minute.
func (s *Service) Tidy(ctx context.Context) { s.tidy(ctx) }
