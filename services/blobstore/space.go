package blobstore

import (
	"log/slog"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/spare"
)

// space watches how much storage a pool has left.
type space struct {
	storage   Spacious // nil if it has no end
	left      *spare.Meter
	reserve   int64   // see [Options]
	low, high float64 // see [Options]
	full      atomic.Bool
}

// of has the space of a storage watched from now on.
func (s *space) of(storage Spacious) {
	s.storage = storage
	s.left = spare.NewMeter(func() (int64, error) {
		free, _, err := storage.Space()
		return free, err
	})
}

// room returns an error if the pool may take no new bytes because too little
// storage is left. There is room again as soon as there is.
func (p *pool) room() error {
	s := &p.space
	if s.storage == nil || s.reserve <= 0 {
		return nil
	}
	free, err := s.left.Free(s.reserve)
	if err != nil {
		return nil //nolint:nilerr // a write will tell
	}
	if s.full.Load() != (free < s.reserve) && s.full.Swap(free < s.reserve) != (free < s.reserve) {
		if free < s.reserve {
			p.log.Error("storage is full: uploads are refused until there is space", slog.Int64("free", free), slog.Int64("reserve", s.reserve))
		} else {
			p.log.Info("storage has space again: uploads are taken", slog.Int64("free", free))
		}
	}
	if free < s.reserve {
		return registry.ErrStorageFull.With("no space left for uploads: %d MiB are free and %d MiB reserved for deletions", free>>20, s.reserve>>20)
	}
	return nil
}

// pressure returns 0 if less storage is used than the low watermark says, 1 if as
// much as the high one says, and what is between for what is between.
func (s *space) pressure() float64 {
	if s.storage == nil || s.high <= 0 {
		return 0
	}
	free, size, err := s.storage.Space()
	if err != nil || size <= 0 {
		return 0
	}
	used := 1 - float64(free)/float64(size)
	switch {
	case used < s.low:
		return 0
	case used >= s.high:
		return 1
	}
	return (used - s.low) / (s.high - s.low)
}
