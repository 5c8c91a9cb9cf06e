package scanner

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/registry"
)

// pullAll fetches newer databases.
func (s *Service) pullAll() {
	const soon, late = 15 * time.Second, 10 * time.Minute
	retry := soon // the registry may be this process, which does not listen yet
	for {
		live := s.live.Load()
		if live.Pull == nil || live.Off {
			if !s.pause(s.pullAgain, longWalk) {
				return
			}
			continue
		}
		wait := live.Every
		if last := s.vulns.Current().Loaded; last > 0 && !s.elsewhere.Load() {
			if age := s.o.Now().Sub(time.UnixMicro(last)); age < live.Every {
				if !s.pause(s.pullAgain, live.Every-age) {
					return
				}
				continue
			}
		}
		s.elsewhere.Store(false)
		if _, err := s.UpdateDB(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("fetching the vulnerability database", "from", live.Pull.Ref.String(), "error", err)
			wait = min(wait, retry)
			retry = min(2*retry, late)
		} else {
			retry = soon
		}
		if !s.pause(s.pullAgain, wait) {
			return
		}
	}
}

// UpdateDB implements [registry.ScanControl].
func (s *Service) UpdateDB(ctx context.Context) (registry.ScanDB, error) {
	if s.live.Load().Pull == nil {
		return registry.ScanDB{}, registry.ErrUnsupported.With("extensions.search.cve.trivy.dbRepository names no registry: import a database from a file")
	}
	s.pulling.Lock()
	defer s.pulling.Unlock()
	// A client that leaves does not end what all wait for.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	db, err := s.pull(ctx)
	s.mu.Lock()
	s.dbErr = ""
	if err != nil {
		s.dbErr = clip(err.Error(), 500)
	}
	s.mu.Unlock()
	if err != nil {
		s.meters.dbFailures.Add(1)
		return registry.ScanDB{}, registry.ErrUnavailable.With("the vulnerability database could not be fetched: %v", err)
	}
	return db, nil
}

func (s *Service) pull(ctx context.Context) (registry.ScanDB, error) {
	s.mu.Lock()
	have := s.have
	s.mu.Unlock()
	from := s.live.Load().Pull
	if from == nil {
		return s.vulns.Current(), nil
	}
	body, digest, err := from.Pull(ctx, have)
	if err != nil {
		return registry.ScanDB{}, err
	}
	if body == nil {
		return s.vulns.Current(), nil
	}
	defer body.Close()
	db, err := s.load(body, from.Ref.String())
	if err == nil {
		s.mu.Lock()
		s.have = digest
		s.mu.Unlock()
	}
	return db, err
}

func (s *Service) load(r io.Reader, source string) (registry.ScanDB, error) {
	before := s.vulns.Current().Version
	db, err := s.vulns.Load(r, source)
	if err != nil {
		return registry.ScanDB{}, err
	}
	if db.Version != before {
		s.log.Info("a vulnerability database is in use", "version", db.Version, "from", source)
	}
	poke(s.lookAgain)
	return db, nil
}

// ImportDB implements [registry.ScanControl].
func (s *Service) ImportDB(_ context.Context, r io.Reader) (registry.ScanDB, error) {
	db, err := s.load(r, "a file")
	if err != nil {
		return registry.ScanDB{}, fmt.Errorf("importing a vulnerability database: %w", err)
	}
	s.mu.Lock()
	s.have, s.dbErr = "", ""
	s.mu.Unlock()
	return db, nil
}
