package registry

import "fmt"

// Finding is something a check of the store found to be wrong.
type Finding struct {
	// Invariant that is broken, "I1" to "I12", see docs/guarantees.md.
	Invariant string `json:"invariant"`
	Repo      Name   `json:"repository,omitempty"` // "" if it concerns no repository
	Digest    Digest `json:"digest,omitempty"`     // "" if it concerns no content
	// Problem says what is wrong, for people.
	Problem string `json:"problem"`
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
