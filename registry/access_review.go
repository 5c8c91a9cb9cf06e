package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// AccessDecision is whether an actor may do something, and why.
type AccessDecision struct {
	Allowed bool
	// Rule is what decided, as a path in http.accessControl; "" if nothing grants it.
	Rule string
	// Because is for people.
	Because string
}

// SubjectKind is what kind of actors a change of rules is about.
type SubjectKind string

// The kinds.
const (
	SubjectUser      SubjectKind = "user"      // one that is known here, or that rules name
	SubjectGroup     SubjectKind = "group"     // whoever is in a group, and in no other
	SubjectKnown     SubjectKind = "known"     // any user whom no rule names
	SubjectAnonymous SubjectKind = "anonymous" // who has not said who he is
)

// AccessChange says who would gain or lose what by other rules.
type AccessChange struct {
	Kind SubjectKind
	Name string // of the user or group
	// Gains and Loses are never both empty. [ActAdmin] and [ActMetrics] are about the
	// store as a whole: there are no repositories then.
	Gains, Loses Actions
	Repositories int64  // how many that are here now
	Examples     []Name // some of them, at most [MaxExamples], ordered
}

// AccessReview is what other rules would change.
type AccessReview struct {
	Changes []AccessChange // at most [MaxAccessChanges], ordered by kind and name
	More    bool           // there are more
	// Users and Repositories are how many were looked at.
	Users, Repositories int64
	// Conditional says that rules have conditions. They count as true here: what is
	// told is what could be done at most.
	Conditional bool
}

// Bounds of an [AccessReview], and of the rules that it is asked for, as JSON.
const (
	MaxAccessChanges = 1000
	MaxExamples      = 10
	MaxRulesBytes    = 1 << 20
)

// ParseAccessRules returns the rules that JSON describes, in the form of
// http.accessControl; nil for "null": there are none. [ErrParameterInvalid] if it is
// something else, or has keys that rules have not.
func ParseAccessRules(text []byte) (*AccessRules, error) {
	if len(text) > MaxRulesBytes {
		return nil, ErrTooLarge.With("rules have at most %d bytes", MaxRulesBytes)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var rules *AccessRules
	if err := d.Decode(&rules); err != nil {
		return nil, ErrParameterInvalid.With("these are no rules in the form of http.accessControl: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrParameterInvalid.With("something follows the rules")
	}
	return rules, nil
}
