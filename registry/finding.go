package registry

import "fmt"

// Finding is something a check of the store found to be wrong.
type Finding struct {
	// Invariant that is broken, "I1" to "I12", see docs/guarantees.md.
	Invariant string
	Repo      Name   // "" if it concerns no repository
	Digest    Digest // "" if it concerns no content
	// Problem says what is wrong, for people.
	Problem string
}

// String returns the finding as a line of text.
func (f Finding) String() string {
	s := f.Invariant
	if f.Repo != "" {
		s += fmt.Sprintf(" repository %s", f.Repo)
	}
	if f.Digest != "" {
		s += fmt.Sprintf(" digest %s", f.Digest)
	}
	return s + ": " + f.Problem
}
