package retention

import (
	"regexp"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Image is a tag with the manifest it points to, or a manifest that no tag and
// no index needs.
type Image struct {
	Tag    registry.Tag // "" if untagged
	Digest registry.Digest
	// Pushed and Pulled are when that was done last, microseconds since 1970; 0 if
	// not known, or never.
	Pushed, Pulled int64
	// Immutable tags stay.
	Immutable bool
	// Subject is the manifest that this one belongs to, "" if to none, and
	// SubjectGone says that the repository does not have it any more.
	Subject     registry.Digest
	SubjectGone bool
}

// Reasons that logs of zot have, too.
const (
	noRule    = "didn't meet any tag retention rule"
	noPattern = "didn't meet any tag 'patterns' rules"
	noFacts   = "tag statistics not found"
)

// Tags decides about all tags of a repository, in the order given.
func (p *Policy) Tags(now time.Time, images []Image) []registry.RetentionDecision {
	all := make([]registry.RetentionDecision, len(images))
	groups := make(map[int][]int) // by entry, where in images
	for i := range images {
		m := &images[i]
		all[i] = p.decision(m)
		switch d := &all[i]; {
		case m.Immutable:
			keep(d, "the tag is immutable")
		case p.number == 0:
			keep(d, "no policy is for this repository")
		case m.Subject != "":
			p.follow(now, m, d)
		case len(p.entries) == 0:
			keep(d, "the policy has no keepTags")
		case m.Pushed == 0 && m.Pulled == 0:
			keep(d, noFacts)
		default:
			if d.Entry = p.entryOf(m.Tag); d.Entry == 0 {
				d.Reason = noPattern
				continue
			}
			groups[d.Entry] = append(groups[d.Entry], i)
		}
	}
	for number, members := range groups {
		group := make([]*Image, len(members))
		for n, i := range members {
			group[n] = &images[i]
		}
		for n, k := range p.entries[number-1].rules.apply(now, group) {
			d := &all[members[n]]
			d.Keep, d.Rule, d.Reason = k.rule != "", k.rule, k.reason()
			if !d.Keep {
				d.Reason = noRule
			}
		}
	}
	return all
}

// Untagged decides about all manifests of a repository that no tag and no index
// needs, in the order given.
func (p *Policy) Untagged(now time.Time, images []Image) []registry.RetentionDecision {
	all := make([]registry.RetentionDecision, len(images))
	var group []*Image
	var members []int
	for i := range images {
		m := &images[i]
		all[i] = p.decision(m)
		switch d := &all[i]; {
		case m.Subject != "":
			p.follow(now, m, d)
		case !p.deleteUntagged:
			keep(d, "deleteUntagged is off")
		case m.Pushed == 0:
			keep(d, noFacts)
		default:
			d.Reason = "untagged"
			group, members = append(group, m), append(members, i)
		}
	}
	if p.keepUntagged != nil {
		for n, k := range p.keepUntagged.apply(now, group) {
			if k.rule == "patterns" {
				k = kept{rule: "keepUntagged"}
			}
			if d := &all[members[n]]; k.rule != "" {
				keep(d, k.reason())
				d.Rule = k.rule
			}
		}
	}
	for _, i := range members {
		if d := &all[i]; !d.Keep && p.young(now, &images[i]) {
			keep(d, "untagged, and younger than retention.delay ("+p.delay.String()+")")
		}
	}
	return all
}

// Plain reports whether the policy decides about an untagged manifest by that
// manifest alone: nothing has to be known of others.
func (p *Policy) Plain() bool {
	return p.keepUntagged == nil || p.keepUntagged.mostPulled == 0 && p.keepUntagged.mostPushed == 0
}

func (p *Policy) decision(m *Image) registry.RetentionDecision {
	return registry.RetentionDecision{Tag: m.Tag, Digest: m.Digest, Policy: p.number, Pushed: m.Pushed, Pulled: m.Pulled}
}

// follow decides about what belongs to another manifest.
func (p *Policy) follow(now time.Time, m *Image, d *registry.RetentionDecision) {
	switch {
	case !m.SubjectGone:
		keep(d, "belongs to "+m.Subject.String())
	case !p.deleteReferrers:
		keep(d, "its subject is gone, and deleteReferrers is off")
	case p.young(now, m):
		keep(d, "its subject is gone, and it is younger than retention.delay ("+p.delay.String()+")")
	default:
		d.Reason = "its subject is gone: " + m.Subject.String()
	}
}

func (p *Policy) young(now time.Time, m *Image) bool {
	return m.Pushed == 0 || time.UnixMicro(m.Pushed).After(now.Add(-p.delay))
}

func keep(d *registry.RetentionDecision, reason string) { d.Keep, d.Reason = true, reason }

// attached are tags by which clients find what belongs to a manifest: the
// fallback of the OCI distribution specification ("Referrers Tag Schema"), and
// those of cosign.
var attached = regexp.MustCompile(`\A(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(\.sig|\.att|\.sbom)?\z`)

// SubjectOf returns the manifest that a tag's name says it belongs to, "" if it
// says nothing.
func SubjectOf(t registry.Tag) registry.Digest {
	m := attached.FindStringSubmatch(string(t))
	if m == nil {
		return ""
	}
	return registry.Digest(strings.Replace(m[1], "-", ":", 1))
}
