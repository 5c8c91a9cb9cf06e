package syncer

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Moves says which tags that move upstream are followed.
type Moves string

// The values of Moves.
const (
	// MovesAny follows all.
	MovesAny Moves = "any"
	// MovesForward does not let a tag point again to what it pointed to here before the
	// last change: an upstream that serves an old release for latest is not believed.
	MovesForward Moves = "forward"
	// MovesVersions is MovesForward, and a tag that is a whole semantic version never
	// moves.
	MovesVersions Moves = "versions"
)

// errHeld says that a tag has moved upstream and is not followed.
var errHeld = errors.New("the tag is held")

// maxHistory is how far back a tag's changes are looked at, the most that a catalog
// tells.
const maxHistory = 1000

// maxHeldTold bounds the tags that are remembered to have been told of.
const maxHeldTold = 10_000

// wholeVersion is a semantic version with all of its three numbers.
var wholeVersion = regexp.MustCompile(`^v?(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?$`)

// mayFollow is errHeld, as [registry.ErrDenied], if the rule does not let a tag point to
// d, by what the catalog says that it was. That outlives the tag: one that was evicted
// or removed is held, too.
func (s *Service) mayFollow(ctx context.Context, t target, tag registry.Tag, d registry.Digest) error {
	if t.rule.Moves == "" || t.rule.Moves == MovesAny {
		return nil
	}
	history, err := s.catalog.TagHistory(ctx, installation, t.repo, tag, maxHistory)
	if errors.Is(err, registry.ErrNameUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what a tag was: %w", err)
	}
	var last registry.Digest
	was := false
	for _, ch := range history {
		if last == "" {
			last = ch.Digest
		}
		was = was || ch.Digest == d
	}
	switch {
	case last == "" || last == d:
		return nil
	case t.rule.Moves == MovesVersions && wholeVersion.MatchString(string(tag)):
	case was:
	default:
		return nil
	}
	s.tellHeld(ctx, t, tag, last, d)
	return registry.ErrDenied.With("the upstream registry %s has moved the tag %s to %s, which the rule's tagMoves does not follow", t.rule.Host, tag, d).Because(errHeld)
}

// tellHeld leaves one audit event for each digest that a tag was not moved to.
func (s *Service) tellHeld(ctx context.Context, t target, tag registry.Tag, from, to registry.Digest) {
	key := tagKey{repo: t.repo, ref: registry.Reference{Tag: tag}}
	s.mu.Lock()
	told := s.held[key] == to
	if len(s.held) >= maxHeldTold {
		clear(s.held) // they are told of once more
	}
	s.held[key] = to
	s.mu.Unlock()
	if told {
		return
	}
	s.meters.held.Inc()
	s.log.Warn("an upstream has moved a tag, which is not followed", "rule", t.rule.Name, "repository", t.repo, "tag", tag, "is", from, "upstream", to)
	at := time.Now().UnixMicro()
	err := s.catalog.RecordAudit(ctx, []registry.AuditEvent{{
		ID: registry.NewAuditID(at), At: at, Actor: installation.ID, Action: "mirror.hold", Object: registry.TagMove(t.repo, tag, from, to),
		Status: registry.Denied.HTTP(), Result: registry.Denied.OCI(),
	}})
	if err != nil && ctx.Err() == nil {
		s.log.Error("that a tag was held is not in the audit log", "repository", t.repo, "tag", tag, "is", from, "upstream", to, "error", err)
	}
}
