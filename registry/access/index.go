package access

import (
	"cmp"
	"maps"
	"slices"
)

// index finds the entry that counts for a name without trying all patterns. Each
// pattern is found by a text of its own that all names have which it matches: what
// they begin with, or what they have somewhere, whichever fewer patterns share.
type index struct {
	lengths []int            // of the texts that names begin with
	by      map[string][]int // by such a text: indexes of entries, ascending
	within  words            // texts that names have somewhere
}

func newIndex(entries []entry) index {
	begins, has := make(map[string]int), make(map[string]int) // how many patterns share a text
	needs := make([][]string, len(entries))
	for i := range entries {
		begins[entries[i].pattern.Prefix()]++
		needs[i] = entries[i].pattern.Needs()
		for _, text := range needs[i] {
			has[text]++
		}
	}
	x := index{by: make(map[string][]int)}
	lengths := make(map[int]bool)
	for i := range entries {
		prefix := entries[i].pattern.Prefix()
		if len(needs[i]) > 0 {
			rarest := slices.MinFunc(needs[i], func(a, b string) int {
				return cmp.Or(cmp.Compare(has[a], has[b]), cmp.Compare(len(b), len(a)))
			})
			if has[rarest] < begins[prefix] {
				x.within.add(rarest, i)
				continue
			}
		}
		x.by[prefix] = append(x.by[prefix], i)
		lengths[len(prefix)] = true
	}
	x.lengths = slices.Sorted(maps.Keys(lengths))
	x.within.finish()
	return x
}

// entryAt returns the index of the entry that counts for a repository, -1 if none
// does.
func (p *Policy) entryAt(repo string) int {
	best := len(p.entries)
	try := func(candidates []int) {
		for _, i := range candidates {
			if i >= best {
				break
			}
			if p.entries[i].pattern.Match(repo) {
				best = i
				break
			}
		}
	}
	for _, n := range p.index.lengths {
		if n > len(repo) {
			break
		}
		try(p.index.by[repo[:n]])
	}
	p.index.within.find(repo, try)
	if best == len(p.entries) {
		return -1
	}
	return best
}

// words finds which of many texts a name has in it, in one pass over the name (Aho and
// Corasick, 1975). The zero value has none.
type words struct {
	edges map[uint64]int32 // from a state, by a byte
	nodes []node
}

// node is a state: a text that a word begins with.
type node struct {
	fail   int32 // the longest end of the text that is a state, too
	next   int32 // the longest end that is a word, 0: none is
	values []int // of the word, ascending
}

func edge(from int32, b byte) uint64 { return uint64(from)<<8 | uint64(b) }

// add adds a word. value must be greater than those before.
func (w *words) add(word string, value int) {
	if w.nodes == nil {
		w.edges, w.nodes = make(map[uint64]int32), make([]node, 1)
	}
	at := int32(0)
	for i := range len(word) {
		to, ok := w.edges[edge(at, word[i])]
		if !ok {
			to = int32(len(w.nodes)) //nolint:gosec // a config file has not that many bytes
			w.nodes = append(w.nodes, node{})
			w.edges[edge(at, word[i])] = to
		}
		at = to
	}
	w.nodes[at].values = append(w.nodes[at].values, value)
}

// finish must be called after the last word was added.
func (w *words) finish() {
	type step struct {
		from, to int32
		b        byte
	}
	out := make(map[int32][]step)
	for key, to := range w.edges {
		from := int32(key >> 8) //nolint:gosec // as it was put there
		out[from] = append(out[from], step{from, to, byte(key)})
	}
	queue := out[0]
	for len(queue) > 0 {
		s := queue[0]
		queue = append(queue[1:], out[s.to]...)
		n := &w.nodes[s.to]
		if s.from != 0 {
			n.fail = w.step(w.nodes[s.from].fail, s.b)
		}
		n.next = n.fail
		if len(w.nodes[n.fail].values) == 0 {
			n.next = w.nodes[n.fail].next
		}
	}
}

// step returns the state behind a byte.
func (w *words) step(at int32, b byte) int32 {
	for {
		if to, ok := w.edges[edge(at, b)]; ok {
			return to
		}
		if at == 0 {
			return 0
		}
		at = w.nodes[at].fail
	}
}

// find calls found with the values of each word that name has in it, perhaps more
// than once.
func (w *words) find(name string, found func(values []int)) {
	if len(w.nodes) == 0 {
		return
	}
	at := int32(0)
	for i := range len(name) {
		at = w.step(at, name[i])
		for hit := at; hit != 0; hit = w.nodes[hit].next {
			if v := w.nodes[hit].values; len(v) > 0 {
				found(v)
			}
		}
	}
}
