package gateway

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// maxRecent is how many answers are kept, of about 500 bytes each.
const maxRecent = 8192

// recent keeps what a catalog elsewhere has said a moment ago, where the operator
// lets answers be that old: which manifest a reference names, and where the bytes
// of a blob are, each for the actor who was told. That something is not there, or
// not for somebody, is never kept. Whatever is changed through this gateway is
// asked for anew.
type recent struct {
	fresh time.Duration // 0: nothing is kept
	now   func() time.Time

	mu      sync.Mutex // guards what follows
	changes uint64     // through this gateway, in any repository
	answers map[registry.Name]map[question]heard
	n       int // answers in all
}

// question is what an actor asks of a repository.
type question struct {
	actor [sha256.Size]byte // see actorKey
	blob  bool              // not a manifest
	ref   registry.Reference
}

// heard is what the catalog said.
type heard struct {
	until    time.Time
	manifest registry.Manifest // without Bytes
	blob     registry.Blob     // without Inline
}

// asked is the moment at which a question goes to the catalog.
type asked struct {
	at      time.Time
	changes uint64
}

// askNow is to be called before the catalog is asked for what keep will be told.
func (r *recent) askNow() asked {
	if r.fresh <= 0 {
		return asked{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return asked{r.now(), r.changes}
}

// manifest returns what q.Ref names, if it is known and the caller needs no bytes
// for it, as q says.
func (r *recent) manifest(a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, bool) {
	if r.fresh <= 0 || !q.NoBytes && q.Have == "" {
		return registry.Manifest{}, false
	}
	got, ok := r.get(repo, question{actor: actorKey(a), ref: q.Ref})
	return got.manifest, ok && (q.NoBytes || q.Have == got.manifest.Digest)
}

// blob returns where the bytes of d are, if that is known.
func (r *recent) blob(a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, bool) {
	if r.fresh <= 0 {
		return registry.Blob{}, false
	}
	got, ok := r.get(repo, question{actorKey(a), true, registry.Reference{Digest: d}})
	return got.blob, ok
}

func (r *recent) get(repo registry.Name, q question) (heard, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, ok := r.answers[repo][q]
	return got, ok && r.now().Before(got.until)
}

// keepManifest keeps what the catalog said to a.
func (r *recent) keepManifest(a registry.Actor, repo registry.Name, ref registry.Reference, m registry.Manifest, when asked) {
	if r.fresh <= 0 {
		return
	}
	m.Bytes = nil
	r.keep(repo, question{actor: actorKey(a), ref: ref}, heard{manifest: m}, when)
}

// keepBlob keeps what the catalog said to a, unless it is the content itself.
func (r *recent) keepBlob(a registry.Actor, repo registry.Name, b registry.Blob, when asked) {
	if r.fresh > 0 && b.Inline == nil {
		r.keep(repo, question{actorKey(a), true, registry.Reference{Digest: b.Digest}}, heard{blob: b}, when)
	}
}

func (r *recent) keep(repo registry.Name, q question, got heard, when asked) {
	// Clones: the originals are parts of a whole request.
	repo = registry.Name(strings.Clone(string(repo)))
	q.ref.Tag = registry.Tag(strings.Clone(string(q.ref.Tag)))
	q.ref.Digest = registry.Digest(strings.Clone(string(q.ref.Digest)))
	got.until = when.at.Add(r.fresh)
	r.mu.Lock()
	defer r.mu.Unlock()
	if when.changes != r.changes {
		return // perhaps it was said before the change
	}
	if r.n >= maxRecent {
		r.clear() // nearly all of them are too old by now
	}
	if r.answers[repo] == nil {
		r.answers[repo] = map[question]heard{}
	}
	if _, known := r.answers[repo][q]; !known {
		r.n++
	}
	r.answers[repo][q] = got
}

// changed forgets a repository that a call has changed, or may have: it is called
// before the client is told. "" stands for all.
func (r *recent) changed(repo registry.Name) {
	if r.fresh <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	if repo == "" {
		r.clear()
		return
	}
	r.n -= len(r.answers[repo])
	delete(r.answers, repo)
}

// clear forgets everything. The caller holds r.mu.
func (r *recent) clear() { r.answers, r.n = map[registry.Name]map[question]heard{}, 0 }

// actorKey returns what two actors share only if they are the same, with the same
// groups, claims and scope, and ask in the same way. It is a hash: a client has much
// room for what it says of itself, and each answer would hold it.
func actorKey(a registry.Actor) [sha256.Size]byte {
	return sha256.Sum256(describe(a))
}

func describe(a registry.Actor) []byte {
	b := strconv.AppendQuote(strconv.AppendBool(strconv.AppendBool(nil, a.System), a.Ruled), a.ID)
	for _, g := range a.Groups {
		b = strconv.AppendQuote(append(b, " g"...), g)
	}
	for _, k := range slices.Sorted(maps.Keys(a.Claims)) {
		b = strconv.AppendQuote(append(b, " c"...), k)
		b = strconv.AppendQuote(append(b, '='), a.Claims[k])
	}
	for _, k := range slices.Sorted(maps.Keys(a.JSONClaims)) {
		b = strconv.AppendQuote(append(b, " j"...), k)
		b = strconv.AppendQuote(append(b, '='), a.JSONClaims[k])
	}
	if r := a.Request; r != nil { // access may depend on it
		for _, s := range append([]string{r.Method, r.UserAgent, r.ClientIP, r.TLS}, r.ForwardedFor...) {
			b = strconv.AppendQuote(append(b, " r"...), s)
		}
	}
	if a.Scope != nil {
		b = append(b, " s"...)
	}
	for _, s := range a.Scope {
		b = strconv.AppendUint(append(strconv.AppendQuote(b, s.Repositories), ' '), uint64(s.Actions), 10)
	}
	return b
}
