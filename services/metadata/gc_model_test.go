package metadata_test

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
)

// The protocol of garbage collection as a model whose every interleaving is
// explored: 2 repositories, 2 digests, 3 writers, 2 collectors, 1 crash. A step is
// what one transaction, or one action outside of transactions, does; docs/adr has
// the prose. Time is what may happen: a lease ends when nobody relies on it any
// more, a fence when nobody is on the way to bytes whose place was read before.

// modelDigest is what a pool has of a digest.
type modelDigest struct {
	row     uint8 // 0 none, 1 live, 2 condemned
	epoch   uint8
	copy    uint8 // that the row names
	bytes   uint8 // copies that are stored, as bits
	garbage uint8 // copies to remove, as bits
	made    uint8 // how many copies there were
	// The blob's review.
	queued   bool
	reviewed uint8 // epoch in it
	passed   bool  // the fence
}

// Leases.
const (
	fresh = iota // more than half is left
	stale
	over
)

type modelLink struct {
	there bool
	lease uint8
	refs  uint8 // manifests that refer to it, as bits by writer
}

type modelWriter struct {
	at       uint8 // the next step; modelDone
	digest   uint8
	copy     uint8 // uploaded or about to be read
	promised bool  // somebody said that the digest is there
	waived   bool  // and then somebody deleted it by name
}

type modelCollector struct {
	at     uint8 // 0 idle, 1 about to decide
	digest uint8
	epoch  uint8 // in the review that was read
}

type modelState struct {
	digests    [2]modelDigest
	links      [2][2]modelLink // by repository and digest
	writers    [3]modelWriter
	collectors [2]modelCollector
	crashed    bool
}

// modelRules are the parts of the protocol that a broken one lacks.
type modelRules struct{ lease, fence, epoch bool }

const modelDone = 9

// model explores states.
type model struct {
	rules  modelRules
	seed   maphash.Seed
	seen   map[uint64]struct{} // hashes of states
	queue  []modelState
	broken string // the first violation
}

func (m *model) reach(s modelState) {
	s.normalize()
	h := maphash.Comparable(m.seed, s)
	if _, ok := m.seen[h]; !ok {
		m.seen[h] = struct{}{}
		m.queue = append(m.queue, s)
	}
}

// normalize makes states equal that differ in names only: which collector is which,
// and the numbers of epochs, of which only matters whether they are equal.
func (s *modelState) normalize() {
	a, b := s.collectors[0], s.collectors[1]
	if a.at < b.at || a.at == b.at && (a.digest < b.digest || a.digest == b.digest && a.epoch < b.epoch) {
		s.collectors[0], s.collectors[1] = b, a
	}
	for d := range s.digests {
		var names [modelNewEpoch + 1]uint8
		last := uint8(0)
		rename := func(e *uint8) {
			if *e == 0 {
				return
			}
			if names[*e] == 0 {
				last++
				names[*e] = last
			}
			*e = names[*e]
		}
		rename(&s.digests[d].epoch)
		rename(&s.digests[d].reviewed)
		for c := range s.collectors {
			if int(s.collectors[c].digest) == d {
				rename(&s.collectors[c].epoch)
			}
		}
	}
}

// modelNewEpoch is an epoch that no row, review or collector has.
const modelNewEpoch = 9

func (m *model) violated(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// explore visits all states that can be reached, or stops at a violation.
func (m *model) explore() {
	m.seed, m.seen = maphash.MakeSeed(), make(map[uint64]struct{})
	start := modelState{}
	// Nothing links the first digest, which waits for its review. The second one
	// is linked, needed by nothing, and its lease is half over.
	start.digests[0] = modelDigest{row: 1, bytes: 1, made: 1, queued: true, passed: true}
	start.digests[1] = modelDigest{row: 1, bytes: 1, made: 1}
	start.links[0][1] = modelLink{there: true, lease: stale}
	for choice := range uint8(8) { // which digest each writer is about
		for w := range start.writers {
			start.writers[w] = modelWriter{at: 1, digest: choice >> w & 1}
		}
		m.reach(start)
	}
	for len(m.queue) > 0 && m.broken == "" {
		s := m.queue[len(m.queue)-1]
		m.queue = m.queue[:len(m.queue)-1]
		m.always(s)
		if m.next(s) == 0 {
			m.atRest(s)
		}
		if !s.crashed {
			m.crash(s)
		}
	}
}

// always checks what holds in each state. I3: what a manifest refers to is there.
func (m *model) always(s modelState) {
	for r := range s.links {
		for d, l := range s.links[r] {
			x := s.digests[d]
			if l.refs != 0 && (!l.there || x.row == 0 || x.bytes&(1<<x.copy) == 0) {
				m.violated("I3: a manifest of repository %d refers to digest %d, which is gone", r, d)
			}
		}
	}
}

// atRest checks a state in which nothing can happen any more. I7: what is stored
// is what manifests refer to.
func (m *model) atRest(s modelState) {
	for d, x := range s.digests {
		needed := false
		for r := range s.links {
			l := s.links[r][d]
			needed = needed || l.refs != 0
			if l.there && l.refs == 0 {
				m.violated("I7: repository %d links digest %d for ever", r, d)
			}
		}
		want := uint8(0)
		if needed {
			want = 1 << x.copy
		}
		if x.bytes != want || x.garbage != 0 {
			m.violated("I7: digest %d: copies %b are stored and %b queued, want %b", d, x.bytes, x.garbage, want)
		}
	}
}

// next goes to all states that follow, and returns how many steps there are.
func (m *model) next(s modelState) (steps int) {
	to := func(n modelState) { steps++; m.reach(n) }
	for w := range s.writers {
		m.write(s, w, to)
	}
	for c := range s.collectors {
		m.collect(s, c, to)
	}
	m.time(s, to)
	return steps
}

// crash ends one writer or collector wherever it is, or all of them.
func (m *model) crash(s modelState) {
	s.crashed = true
	all := s
	for w, x := range s.writers {
		if x.at == modelDone {
			continue
		}
		n := s
		n.writers[w] = modelWriter{at: modelDone}
		all.writers[w] = modelWriter{at: modelDone}
		m.reach(n)
	}
	for c := range s.collectors {
		n := s
		n.collectors[c] = modelCollector{}
		all.collectors[c] = modelCollector{}
		m.reach(n)
	}
	m.reach(all)
}

// relies reports whether a writer was told that a link is there.
func (s *modelState) relies(repo, digest int) bool {
	for w, x := range s.writers {
		if x.promised && int(x.digest) == digest && modelRepo(w) == repo {
			return true
		}
	}
	return false
}

// modelRepo returns the repository of a writer.
func modelRepo(w int) int { return w / 2 }

// time lets leases and fences end.
func (m *model) time(s modelState, to func(modelState)) {
	for r := range s.links {
		for d, l := range s.links[r] {
			if !l.there || l.refs != 0 || l.lease == over || l.lease == stale && s.relies(r, d) {
				continue
			}
			n := s
			n.links[r][d].lease++
			to(n)
		}
	}
	for d, x := range s.digests {
		if !x.queued || x.passed || m.rules.fence && s.reads(d, x.copy) {
			continue
		}
		n := s
		n.digests[d].passed = true
		to(n)
	}
}

// reads reports whether somebody has read where a copy is and not opened it yet.
func (s *modelState) reads(digest int, copy uint8) bool {
	for w, x := range s.writers {
		if int(x.digest) == digest && x.copy == copy && (w == 1 && x.at == 2 || w == 2 && x.at == 2) {
			return true
		}
	}
	return false
}

// links reports whether a repository links a digest.
func (s *modelState) linked(d int) bool { return s.links[0][d].there || s.links[1][d].there }

// enqueue queues a review of a blob.
func (s *modelState) enqueue(d int) {
	if x := &s.digests[d]; !x.queued {
		x.queued, x.reviewed, x.passed = true, 0, true
	}
}

// revive makes a condemned blob live.
func (s *modelState) revive(d int) {
	if x := &s.digests[d]; x.row == 2 {
		x.row, x.epoch = 1, modelNewEpoch
	}
}

// write takes the next step of a writer. Writer 0 pushes, deletes what it pushed,
// and may delete the blob, too; writer 1 asks whether the blob is there, and
// refers to it without an upload, or reads it; writer 2 mounts it elsewhere,
// reads it, and may delete it.
func (m *model) write(s modelState, w int, to func(modelState)) {
	x := s.writers[w]
	if x.at == modelDone {
		return
	}
	d, r := int(x.digest), modelRepo(w)
	n := s
	me, link, dig := &n.writers[w], &n.links[r][d], &n.digests[d]
	done := func() { *me = modelWriter{at: modelDone} }
	refer := func(next uint8) {
		if !link.there {
			if !x.waived {
				m.violated("I2: writer %d was told that digest %d is there, and may not refer to it", w, d)
			}
			done()
		} else {
			link.refs |= 1 << w
			me.promised, me.at = false, next
		}
		to(n)
	}
	switch w*10 + int(x.at) {
	case 1: // upload
		me.copy, me.at = dig.made, 2
		dig.bytes |= 1 << dig.made
		dig.made++
		to(n)
	case 2: // Link
		if dig.row == 0 {
			dig.row, dig.copy, dig.epoch = 1, x.copy, modelNewEpoch
		} else {
			n.revive(d)
			dig.garbage |= 1 << x.copy
		}
		link.there, link.lease, me.promised, me.at = true, fresh, true, 3
		to(n)
	case 3: // PutManifest
		refer(4)
	case 4: // DeleteManifest
		link.refs &^= 1
		link.lease, me.at = fresh, 5
		to(n)
	case 5, 23: // Unlink, or not
		left := n
		left.writers[w] = modelWriter{at: modelDone}
		to(left)
		if link.there && link.refs == 0 {
			link.there = false
			n.enqueue(d)
			for o := range n.writers {
				if n.relies(r, d) && modelRepo(o) == r && int(n.writers[o].digest) == d {
					n.writers[o].waived = true
				}
			}
			done()
			to(n)
		}
	case 11: // HEAD
		switch {
		case !link.there:
			done()
		case link.refs != 0 || link.lease == fresh:
			me.promised, me.copy, me.at = true, dig.copy, 2
		default:
			me.at = 3
		}
		to(n)
	case 13: // HEAD, the promise
		if link.there {
			link.lease, me.promised, me.copy, me.at = fresh, true, dig.copy, 2
		} else {
			done()
		}
		to(n)
	case 12: // PutManifest, or read
		if dig.bytes&(1<<x.copy) == 0 {
			m.violated("I2: writer %d was told where digest %d is, and the bytes are gone", w, d)
		}
		read := n
		read.writers[w] = modelWriter{at: modelDone}
		to(read)
		refer(modelDone)
	case 21: // Mount from the other repository
		if s.links[0][d].there {
			n.revive(d)
			link.there, link.lease, me.promised, me.copy, me.at = true, fresh, true, dig.copy, 2
		} else {
			done()
		}
		to(n)
	case 22: // read
		if dig.bytes&(1<<x.copy) == 0 {
			m.violated("I2: writer %d was told where digest %d is, and the bytes are gone", w, d)
		}
		me.promised, me.copy, me.at = false, 0, 3
		to(n)
	}
}

// collect takes the next step of a collector.
func (m *model) collect(s modelState, c int, to func(modelState)) {
	x := s.collectors[c]
	d := int(x.digest)
	n := s
	me := &n.collectors[c]
	switch x.at {
	case 0:
		m.begin(s, c, to)
	case 1: // decide on a blob
		dig := &n.digests[d]
		*me = modelCollector{}
		switch {
		case !dig.queued || m.rules.epoch && dig.reviewed != x.epoch: // somebody has decided meanwhile
		case dig.row == 0:
			dig.queued = false
		case n.linked(d):
			n.revive(d)
			dig.queued = false
		case dig.row == 2 && (dig.epoch == x.epoch || !m.rules.epoch):
			dig.garbage |= 1 << dig.copy
			dig.row, dig.copy, dig.epoch, dig.queued = 0, 0, 0, false
		default:
			dig.row, dig.passed = 2, !m.rules.fence
			dig.epoch, dig.reviewed = modelNewEpoch, modelNewEpoch
		}
		if !dig.queued {
			dig.reviewed, dig.passed = 0, false
		}
		to(n)
	}
}

// begin is what a collector may begin with.
func (m *model) begin(s modelState, c int, to func(modelState)) {
	for r := range s.links {
		for d, l := range s.links[r] {
			if l.there && l.refs == 0 && (l.lease == over || !m.rules.lease) {
				n := s
				n.links[r][d] = modelLink{}
				n.enqueue(d)
				to(n)
			}
		}
	}
	for d, x := range s.digests {
		if x.queued && x.passed {
			n := s
			n.collectors[c] = modelCollector{at: 1, digest: uint8(d), epoch: x.reviewed}
			to(n)
		}
		for copy := range x.made {
			bit := uint8(1) << copy
			n := s
			switch {
			case x.garbage&bit != 0:
				n.digests[d].bytes &^= bit
				if !s.crashed { // between the removal and the record of it
					lost := n
					lost.crashed = true
					to(lost)
				}
				n.digests[d].garbage &^= bit
				to(n)
			case x.bytes&bit != 0 && (x.row == 0 || x.copy != copy) && !(s.writers[0].at == 2 && int(s.writers[0].digest) == d && s.writers[0].copy == copy):
				n.digests[d].garbage |= bit // a stray: nobody will link it any more
				to(n)
			}
		}
	}
}

// The protocol keeps I2, I3 and I7 in every interleaving. Without the lease, the
// fence or the epoch it does not, so none of them is there for nothing.
func TestModelOfTheProtocol(t *testing.T) {
	whole := &model{rules: modelRules{lease: true, fence: true, epoch: true}}
	whole.explore()
	t.Logf("%d states", len(whole.seen))
	if whole.broken != "" {
		t.Errorf("the protocol is broken: %s", whole.broken)
	}
	if len(whole.seen) < 1_000_000 {
		t.Errorf("only %d states: this explores too little", len(whole.seen))
	}
	for name, rules := range map[string]modelRules{
		"no lease": {fence: true, epoch: true},
		"no fence": {lease: true, epoch: true},
		"no epoch": {lease: true, fence: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &model{rules: rules}
			m.explore()
			t.Logf("%d states until: %s", len(m.seen), m.broken)
			if !strings.HasPrefix(m.broken, "I2") && !strings.HasPrefix(m.broken, "I3") && !strings.HasPrefix(m.broken, "I7") {
				t.Errorf("the protocol without it keeps I2, I3 and I7 (%q)", m.broken)
			}
		})
	}
}
