package syncer

import (
	"context"
	"time"
)

// Tidy does what is done each minute.
func (s *Service) Tidy(ctx context.Context) { s.tidy(ctx) }

// SetStall sets how long an upstream may send no byte. Call it before a fill begins.
func (s *Service) SetStall(d time.Duration) { s.stall = d }

// SetMost sets how many blobs are fetched at a time. Call it before a fill begins.
func (s *Service) SetMost(n int) { s.most = n }
