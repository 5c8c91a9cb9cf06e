package config

import "strings"

// suggest names the known key nearest to an unknown one of this object: one
// that is spelled nearly like it, else the same name at another place, else the
// nearest there is.
func (s *spec) suggest(unknown string) string {
	best, distance := "", -1
	for _, name := range s.order {
		d := editDistance(unknown, name)
		if d > 1 && len(unknown) > 2 && hasPrefixFold(name, unknown) {
			d = 1 // an abbreviation
		}
		if distance < 0 || d < distance {
			best, distance = name, d
		}
	}
	if distance > max(1, len(unknown)/4) {
		for _, k := range Keys() {
			if _, name, _ := cutLast(k.Path); strings.EqualFold(name, unknown) {
				return "it belongs at " + k.Path
			}
		}
	}
	if best == "" {
		return "no keys are known here"
	}
	return "the nearest known one is " + best
}

// nearest returns the name that is spelled most like key, "" if none is.
func nearest(key string, names []string) string {
	best, distance := "", max(1, len(key)/4)+1
	for _, name := range names {
		if d := editDistance(key, name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// editDistance counts the letters to insert, remove, change or swap with their
// neighbour to turn a into b, whatever their case.
func editDistance(a, b string) int {
	const enough = 64
	x, y := strings.ToLower(a), strings.ToLower(b)
	x, y = x[:min(len(x), enough)], y[:min(len(y), enough)]
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := rows[i-1][j-1]
			if x[i-1] != y[j-1] {
				change++
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
