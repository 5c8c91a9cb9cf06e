package metadata

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/berth-registry/berth/registry"
)

// search puts a query together: of constants, and of parameters for all that comes
// from outside.
type search struct {
	text strings.Builder
	args []any
}

// add adds a text in which each ? stands for the next argument.
func (s *search) add(text string, args ...any) {
	for {
		before, after, more := strings.Cut(text, "?")
		s.text.WriteString(before)
		if !more {
			return
		}
		s.args = append(s.args, args[0])
		s.text.WriteString("$" + strconv.Itoa(len(s.args)))
		text, args = after, args[1:]
	}
}

// then returns the query of s, a text, and next, whose parameters are numbered behind
// those of s.
func (s *search) then(text string, next *search) *search {
	all := &search{args: append(s.args[:len(s.args):len(s.args)], next.args...)}
	for _, part := range []string{s.text.String(), " ", text, next.text.String()} {
		all.text.WriteString(part)
	}
	return all
}

// any adds alternatives, each a text with the next arguments.
func (s *search) any(text string, all [][]any) {
	s.add("(")
	for i, args := range all {
		if i > 0 {
			s.add(" OR ")
		}
		s.add(text, args...)
	}
	s.add(")")
}

// in adds a list of parameters, whose length is a power of two, so that there are few
// texts.
func in[T any](s *search, values []T) {
	s.add("(")
	for i, v := range padded(values) {
		if i > 0 {
			s.add(",")
		}
		s.add("?", v)
	}
	s.add(")")
}

// padded repeats the last of at least one value, up to a power of two.
func padded[T any](values []T) []T {
	all := make([]T, 1<<bits.Len(uint(len(values)-1)))
	for i := range all {
		all[i] = values[min(i, len(values)-1)]
	}
	return all
}

// find runs a query and calls row for each row of the answer.
func (c *Catalog) find(ctx context.Context, s *search, row func(scan func(dest ...any) error) error) error {
	if spy, ok := ctx.Value(searchSpy{}).(func(text string)); ok {
		spy(s.text.String())
	}
	rows, err := c.db.QueryOnce(ctx, s.text.String(), s.args...)
	if err != nil {
		return fmt.Errorf("searching: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("searching: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("searching: %w", err)
	}
	return nil
}

// searchSpy is the key of a function, in the contexts of tests, that is told the texts
// of queries.
type searchSpy struct{}

const sqlSearchRepos = `SELECT id, name FROM repositories ORDER BY name`

// reader says which repositories an actor may read.
type reader struct {
	c    *Catalog
	a    registry.Actor
	v    viewer
	all  bool   // every one
	some string // if not: their ids as a JSON array, when they were read
	// last is the largest id if they are all there were when they were read: one that
	// is made meanwhile has a larger one.
	last int64
}

func (c *Catalog) readerOf(a registry.Actor) *reader {
	policy := c.rights.policy.Load()
	return &reader{c: c, a: a, v: c.access.viewer(a), all: c.access == access(c.rights) && a.Scope == nil && (policy == nil && !a.Ruled || a.System)}
}

// may reports whether a repository may be read.
func (r *reader) may(repo registry.Name) bool {
	return r.all || r.v.Sees(repo) && r.c.access.allow(r.a, repo, registry.ActRead) == nil
}

// ids reads which repositories may be read.
func (r *reader) ids(ctx context.Context) error {
	if r.all {
		return nil
	}
	ids := []int64{}
	rows, err := r.c.db.Query(ctx, sqlSearchRepos)
	if err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	defer rows.Close()
	n, last := 0, int64(0)
	for ; rows.Next(); n++ {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return fmt.Errorf("listing repositories: %w", err)
		}
		last = max(last, id)
		if r.may(registry.Name(name)) {
			ids = append(ids, id)
		}
	}
	if len(ids) == n {
		r.last = last
	}
	b, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	r.some = string(b)
	return rows.Err()
}

// restrict adds that the repository of an image may be read.
func (r *reader) restrict(s *search) {
	switch {
	case r.all:
	case r.last > 0:
		s.add(" AND t.repo_id <= ?", r.last)
	default:
		s.add(" AND t.repo_id IN (")
		s.add(r.c.db.Dialect().Integers, r.some)
		s.add(")")
	}
}

// Conditions of an image: t is its tag, i what is known of it, r its repository.
const (
	findNoSignature = ` AND t.name NOT LIKE 'sha256-________________________________________________________________.%'`
	findPlatform    = `i.platforms LIKE ? ESCAPE '!'`
	findLikes       = ` EXISTS (SELECT 1 FROM preferences p WHERE p.actor = ? AND p.kind = ? AND p.repo_id = r.id)`
)

// filter adds what a filter says of images.
func filterImages(s *search, f registry.SearchFilter) {
	if len(f.OS)+len(f.Arch) > 0 {
		var all [][]any
		for _, os := range orAny(f.OS) {
			for _, arch := range orAny(f.Arch) {
				all = append(all, []any{"%," + os + "/" + arch + ",%"})
			}
		}
		s.add(" AND ")
		s.any(findPlatform, padded(all))
	}
	if f.Signed {
		s.add(` AND (EXISTS (SELECT 1 FROM manifests g WHERE g.repo_id = t.repo_id AND g.subject = t.digest AND g.artifact_type IN `)
		in(s, registry.SignatureTypes())
		s.add(`) OR EXISTS (SELECT 1 FROM tags g WHERE g.repo_id = t.repo_id AND g.name = i.signature))`)
	}
}

// orAny returns patterns for values, or for anything if there are none.
func orAny(values []string) []string {
	if len(values) == 0 {
		return []string{"%"}
	}
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = escapeLike(strings.ToLower(v))
	}
	return all
}

// filterRepos adds what a filter says of repositories.
func filterRepos(s *search, f registry.SearchFilter, a registry.Actor) {
	for kind, want := range []*bool{registry.Starred: f.Starred, registry.Bookmarked: f.Bookmarked} {
		switch {
		case want == nil:
		case *want:
			s.add(" AND"+findLikes, a.ID, int64(kind))
		default:
			s.add(" AND NOT"+findLikes, a.ID, int64(kind))
		}
	}
}

var likeEscapes = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// escapeLike returns a text as part of a pattern of LIKE … ESCAPE '!'.
func escapeLike(text string) string { return likeEscapes.Replace(text) }

// isText reports whether a database may have a text in it.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// digestRange returns the first and last stored digest that begin so.
func digestRange(prefix string) (first, last []byte, err error) {
	alg, digits, _ := strings.Cut(prefix, ":")
	b := []byte{algSHA256}
	if alg == string(registry.SHA512) {
		b[0] = algSHA512
	}
	ends := [2][]byte{}
	for i, fill := range []string{"0", "f"} {
		full := digits
		if len(full)%2 == 1 {
			full += fill
		}
		if ends[i], err = hex.AppendDecode(append([]byte{}, b...), []byte(full)); err != nil {
			return nil, nil, registry.ErrParameterInvalid.With("%.80q does not begin a digest", prefix)
		}
	}
	for len(ends[1]) < 65 {
		ends[1] = append(ends[1], 0xff)
	}
	return ends[0], ends[1], nil
}

// layerPart is how many bytes of a layer's hash are compared.
const layerPart = 16

// packLayers returns the layers of an image as they are stored, nil if it has none,
// or too many.
func packLayers(digests []registry.Digest) []byte {
	if len(digests) == 0 || len(digests) > registry.MaxSearchLayers {
		return nil
	}
	var all []byte
	for _, d := range digests {
		b, err := pack(d)
		if err != nil {
			return nil
		}
		all = append(all, b[1:1+layerPart]...)
	}
	return all
}

// imageKey is a manifest of a repository.
type imageKey struct {
	repo   int64
	digest string // stored form
}

// eachPart calls f with parts of keys as parameters.
func eachPart(keys []imageKey, f func(all [][]any) error) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), searchPart)]
		keys = keys[len(part):]
		var all [][]any
		for _, k := range part {
			all = append(all, []any{k.repo, []byte(k.digest)})
		}
		if err := f(padded(all)); err != nil {
			return err
		}
	}
	return nil
}

// searchPart is how many images one query tells of.
const searchPart = 64
