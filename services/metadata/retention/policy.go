package retention

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/glob"
)

// Policies are those of a config file.
type Policies struct {
	DryRun bool // decide, delete nothing
	list   []*Policy
	others *Policy // of repositories that none of list is for
}

// Policy is what holds for a repository.
type Policy struct {
	number          int // from 1, 0 if the file has none for the repository
	repositories    glob.Set
	entries         []entry
	deleteUntagged  bool
	deleteReferrers bool
	keepUntagged    *rules // nil: nothing
	delay           time.Duration
}

// entry is one of keepTags.
type entry struct {
	patterns []*regexp.Regexp // none match all
	rules    rules
}

// rules are alternatives. Those that are zero are not there.
type rules struct {
	pulledWithin, pushedWithin *time.Duration
	mostPulled, mostPushed     int
}

func (r rules) empty() bool { return r == rules{} }

// Default returns the policies of a config file that has none: tags stay, and
// what nothing needs goes.
func Default(delay time.Duration) *Policies {
	return &Policies{others: &Policy{deleteUntagged: true, deleteReferrers: true, delay: delay}}
}

// Compile returns the policies of a config file. c is nil if it has none; delay
// is what holds unless c has another, the age below which no untagged manifest
// is deleted.
func Compile(c *config.Retention, delay time.Duration) (*Policies, error) {
	if c == nil {
		c = new(config.Retention)
	}
	if c.Delay != nil {
		delay = *c.Delay
	}
	ps := Default(delay)
	ps.DryRun = c.DryRun
	for i, from := range c.Policies {
		p := &Policy{number: i + 1, deleteUntagged: from.DeleteUntagged, deleteReferrers: from.DeleteReferrers, delay: delay}
		var err error
		if p.repositories, err = glob.CompileAll(from.Repositories); err != nil {
			return nil, fmt.Errorf("policy %d: %w", p.number, err)
		}
		for _, k := range from.KeepTags {
			e := entry{rules: rulesOf(k.KeepRule)}
			for _, text := range k.Patterns {
				re, err := regexp.Compile(text)
				if err != nil {
					return nil, fmt.Errorf("policy %d: %w", p.number, err)
				}
				e.patterns = append(e.patterns, re)
			}
			p.entries = append(p.entries, e)
		}
		if from.KeepUntagged != nil {
			r := rulesOf(*from.KeepUntagged)
			p.keepUntagged = &r
		}
		ps.list = append(ps.list, p)
	}
	return ps, nil
}

func rulesOf(k config.KeepRule) rules {
	return rules{pulledWithin: k.PulledWithin, pushedWithin: k.PushedWithin, mostPulled: k.MostRecentlyPulledCount, mostPushed: k.MostRecentlyPushedCount}
}

// For returns the policy of a repository.
func (ps *Policies) For(repo registry.Name) *Policy {
	for _, p := range ps.list {
		if p.repositories.Match(string(repo)) {
			return p
		}
	}
	return ps.others
}

// DeleteTags reports whether a policy may delete tags at all.
func (ps *Policies) DeleteTags() bool {
	return slices.ContainsFunc(ps.list, (*Policy).DeletesTags)
}

// DeletesTags reports whether the policy may delete tags.
func (p *Policy) DeletesTags() bool { return p.number > 0 && (len(p.entries) > 0 || p.deleteReferrers) }

// entryOf returns the number of the entry that a tag belongs to, from 1; 0 if
// there is none.
func (p *Policy) entryOf(t registry.Tag) int {
	return 1 + slices.IndexFunc(p.entries, func(e entry) bool {
		return len(e.patterns) == 0 || slices.ContainsFunc(e.patterns, func(re *regexp.Regexp) bool { return re.MatchString(string(t)) })
	})
}
