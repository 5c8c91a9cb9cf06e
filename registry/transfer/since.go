package transfer

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Since is what the other side has, so that an export can leave it out.
type Since struct {
	what string                   // for people
	has  map[registry.Digest]bool // blobs, in whichever repository

	manifests map[seenKey]bool
	tags      map[string]registry.Digest // by repository:tag
}

func newSince(what string) *Since {
	return &Since{what: what, has: make(map[registry.Digest]bool), manifests: make(map[seenKey]bool), tags: make(map[string]registry.Digest)}
}

func tagKey(repo registry.Name, t registry.Tag) string { return string(repo) + ":" + string(t) }

// The lines of a receipt: a head, tags, manifests and blobs with their digests.
const (
	receiptHead = "berth-receipt 1 "
	maxReceipt  = 10_000_000 // lines
)

// ReadReceipt reads what [WriteReceipt] wrote on the other side.
func ReadReceipt(file string) (*Since, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseReceipt(f)
}

func parseReceipt(r io.Reader) (*Since, error) {
	lines := bufio.NewScanner(r)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), receiptHead) {
		return nil, errors.New("it is not a receipt of berth import")
	}
	s := newSince("receipt of " + strings.TrimPrefix(lines.Text(), receiptHead))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if n > maxReceipt || len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("line %d of the receipt is malformed", n+1)
		}
		d, err := registry.ParseDigest(fields[len(fields)-1])
		if err != nil {
			return nil, fmt.Errorf("line %d of the receipt: %w", n+1, err)
		}
		switch {
		case fields[0] == "has" && len(fields) == 2:
			s.has[d] = true
		case fields[0] == "tag" && len(fields) == 3:
			s.tags[fields[1]] = d
		case fields[0] == "manifest" && len(fields) == 3:
			s.manifests[seenKey{registry.Name(fields[1]), d}] = true
		default:
			return nil, fmt.Errorf("line %d of the receipt is malformed", n+1)
		}
	}
	return s, lines.Err()
}

// WriteReceipt writes what a registry has, for an export on the other side to
// leave it out.
func WriteReceipt(ctx context.Context, store Store, now time.Time, to io.Writer) error {
	s := newSince("")
	err := eachRepository(ctx, store, func(repo registry.Name) error {
		return s.note(ctx, store, repo).all()
	})
	if err != nil {
		return err
	}
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "%s%s\n", receiptHead, now.UTC().Format(time.RFC3339))
	for _, t := range slices.Sorted(maps.Keys(s.tags)) {
		fmt.Fprintf(w, "tag %s %s\n", t, s.tags[t])
	}
	manifests := slices.SortedFunc(maps.Keys(s.manifests), func(a, b seenKey) int {
		return cmp.Or(cmp.Compare(a.repo, b.repo), cmp.Compare(a.digest, b.digest))
	})
	for _, m := range manifests {
		fmt.Fprintf(w, "manifest %s %s\n", m.repo, m.digest)
	}
	for _, d := range slices.Sorted(maps.Keys(s.has)) {
		fmt.Fprintf(w, "has %s\n", d)
	}
	return w.Flush()
}

// note returns a walker that notes what it visits.
func (s *Since) note(ctx context.Context, store Store, repo registry.Name) *walker {
	return &walker{
		Store: store, ctx: ctx, repo: repo,
		manifest: func(m registry.Manifest) error { s.manifests[seenKey{repo, m.Digest}] = true; return nil },
		tag:      func(t registry.Tag, m registry.Manifest) error { s.tags[tagKey(repo, t)] = m.Digest; return nil },
		untagged: func(registry.Manifest) error { return nil },
		blob:     func(b registry.Blob) error { s.has[b.Digest] = true; return nil },
		missing:  func(registry.Digest) {},
	}
}

// maxHistory is how many changes of a tag are looked at.
const maxHistory = 1000

// SinceTime returns what a registry had at a moment, as far as its tags' histories
// and what is left of it tell.
func SinceTime(ctx context.Context, store Store, at time.Time) (*Since, error) {
	s := newSince(at.UTC().Format(time.RFC3339))
	err := eachRepository(ctx, store, func(repo registry.Name) error {
		w := s.note(ctx, store, repo)
		w.tag = func(registry.Tag, registry.Manifest) error { return nil }
		return eachTag(ctx, store, repo, func(t registry.Tag) error {
			history, err := store.Catalog.TagHistory(ctx, store.Actor, repo, t, maxHistory)
			if err != nil {
				return err
			}
			for _, c := range history { // the latest first
				if c.At > at.UnixMicro() {
					continue
				}
				if c.Digest == "" {
					return nil
				}
				s.tags[tagKey(repo, t)] = c.Digest
				err := s.had(w, c.Digest)
				if errors.Is(err, registry.ErrManifestUnknown) {
					return nil // it is gone here, and what it needed is not known
				}
				return err
			}
			return nil
		})
	})
	return s, err
}

// had notes a manifest and what it needs, but no referrers: these may be younger.
func (s *Since) had(w *walker, d registry.Digest) error {
	key := seenKey{w.repo, d}
	if s.manifests[key] {
		return nil
	}
	m, err := w.Catalog.Manifest(w.ctx, w.Actor, w.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
	if err != nil {
		return err
	}
	s.manifests[key] = true
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	for _, ref := range info.References {
		if ref.Manifest {
			err := s.had(w, ref.Digest)
			if err == nil || !errors.Is(err, registry.ErrManifestUnknown) {
				if err != nil {
					return err
				}
				continue
			}
		}
		s.has[ref.Digest] = true
	}
	return nil
}

func eachRepository(ctx context.Context, store Store, f func(registry.Name) error) error {
	for after := registry.Name(""); ; {
		list, err := store.Catalog.Repositories(ctx, store.Actor, registry.Page[registry.Name]{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, n := range list.Items {
			after = n
			if err := f(n); err != nil {
				return err
			}
		}
		if !list.More {
			return nil
		}
	}
}

func eachTag(ctx context.Context, store Store, repo registry.Name, f func(registry.Tag) error) error {
	for after := registry.Tag(""); ; {
		list, err := store.Catalog.Tags(ctx, store.Actor, repo, registry.Page[registry.Tag]{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, t := range list.Items {
			after = t
			if err := f(t); err != nil {
				return err
			}
		}
		if !list.More {
			return nil
		}
	}
}
