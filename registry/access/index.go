package access

import (
	"maps"
	"slices"
)

// index finds the entry that counts for a name without trying all patterns: each
// begins with some text that is matched as it is, and only those whose text the
// name begins with are tried.
type index struct {
	lengths []int            // of the texts
	by      map[string][]int // by text: indexes of entries, ascending
}

func newIndex(entries []entry) index {
	x := index{by: make(map[string][]int)}
	lengths := make(map[int]bool)
	for i := range entries {
		prefix := entries[i].pattern.Prefix()
		x.by[prefix] = append(x.by[prefix], i)
		lengths[len(prefix)] = true
	}
	x.lengths = slices.Sorted(maps.Keys(lengths))
	return x
}

// entryAt returns the index of the entry that counts for a repository, -1 if none
// does.
func (p *Policy) entryAt(repo string) int {
	best := len(p.entries)
	for _, n := range p.index.lengths {
		if n > len(repo) {
			break
		}
		for _, i := range p.index.by[repo[:n]] {
			if i >= best {
				break
			}
			if p.entries[i].pattern.Match(repo) {
				best = i
				break
			}
		}
	}
	if best == len(p.entries) {
		return -1
	}
	return best
}
