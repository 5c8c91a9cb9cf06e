package syncer

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// Rule is one upstream registry and what of it is mirrored.
type Rule struct {
	Name      string // unique
	Host      string // of the registry, as clients name it: docker.io for Docker Hub
	Hosts     []*upstream.Host
	OnDemand  bool
	Interval  time.Duration // 0: no schedule
	Fresh     time.Duration // how long a tag is trusted before the upstream is asked again
	Content   []Content     // empty: everything, on demand only
	Push      registry.PushRule
	Platforms []string // of an index, for scheduled copies; empty: all
	// OnlySigned skips images without a signature, CosignTags copies the tags that
	// hold signatures of old cosign, too. Both are for scheduled copies.
	OnlySigned bool
	CosignTags bool
	Retries    int
	RetryDelay time.Duration
	MaxDelay   time.Duration
	Timeout    time.Duration // of one image or blob
	Rate       int64         // bytes a second, 0: no limit
	Upload     int64         // the same for what is passed on
	Windows    []Window      // parts of the week in which other limits hold
	MaxBlob    int64         // bytes of one blob, 0: no limit
	Monthly    int64         // bytes a month (UTC), 0: no limit
	// Conflict is for tags that are passed on, and Compare how often all of them are
	// compared with what was; 0 is never.
	Conflict Conflict
	Compare  time.Duration
	Deletes  bool // removals are passed on, too
	// NoticeSecret reads what signs notices of pushes to the upstream; nil: the rule takes
	// none. It may be called by many goroutines.
	NoticeSecret func() (string, error)
	// Moves says which tags that move upstream are followed; "" is all.
	Moves Moves
	// Prune is about tags that are gone upstream, and needs a schedule.
	Prune Prune

	// Source is what the rule was made of. Rules of one name and equal sources do the same.
	Source any

	state *ruleState    // shared by all rules that have had this name, one after the other
	stop  func()        // ends its scheduled work
	ended chan struct{} // closed when that has ended
}

// Content selects repositories of an upstream and says what they are called here.
type Content struct {
	Prefix      string
	Destination string
	StripPrefix bool
	Regex       *regexp.Regexp // nil: any
	Exclude     *regexp.Regexp // nil: none
	Semver      bool

	pattern *glob.Pattern
	fixed   string // the part of Prefix before its first special character, to the last slash
}

// compile prepares c.
func (c *Content) compile() error {
	prefix := strings.Trim(c.Prefix, "/")
	var err error
	if c.pattern, err = glob.Compile(prefix); err != nil {
		return err
	}
	c.fixed = glob.FixedPart(prefix)
	return nil
}

// local returns what an upstream repository is called here.
func (c *Content) local(remote string) string {
	name := remote
	if c.StripPrefix {
		name = strings.TrimPrefix(strings.TrimPrefix(remote, c.fixed), "/")
	}
	dest := strings.Trim(c.Destination, "/")
	switch {
	case dest == "":
		return name
	case name == "":
		return dest
	}
	return dest + "/" + name
}

// remote returns which repository of host the local name stands for. On Docker Hub, where
// no name has one part, that is one of library/, also if the pattern does not say so.
func (c *Content) remote(host, local string) (string, bool) {
	dest := strings.Trim(c.Destination, "/")
	name := local
	if dest != "" {
		var ok bool
		if name, ok = strings.CutPrefix(local, dest); !ok || name != "" && name[0] != '/' {
			return "", false
		}
		name = strings.TrimPrefix(name, "/")
	}
	if c.StripPrefix && c.fixed != "" {
		if name == "" {
			name = c.fixed
		} else {
			name = c.fixed + "/" + name
		}
	}
	full := upstream.Complete(host, name)
	return full, name != "" && (c.pattern.Match(full) || c.pattern.Match(name))
}

// wants reports whether a scheduled copy takes a tag.
func (c *Content) wants(tag string) bool {
	return (c.Regex == nil || c.Regex.MatchString(tag)) &&
		(c.Exclude == nil || !c.Exclude.MatchString(tag)) &&
		(!c.Semver || isSemver(tag))
}

// semver is a semantic version as zot takes it: a leading v, missing parts and leading
// zeros are allowed.
var semver = regexp.MustCompile(`^v?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func isSemver(tag string) bool { return semver.MatchString(tag) }

// target is a local repository seen from a rule.
type target struct {
	rule    *Rule
	repo    registry.Name
	remote  string   // what it is called upstream
	content *Content // nil: everything
}

// match returns the target of a local name under r, if r covers it.
func (r *Rule) match(local string) (target, bool) {
	// host/name stands for name there, in the form of k3s, podman and the guide.
	if rest, ok := r.cutHost(local); ok {
		remote := upstream.Complete(r.Host, rest)
		if len(r.Content) == 0 {
			return target{r, registry.Name(local), remote, nil}, true
		}
		for i := range r.Content {
			if c := &r.Content[i]; c.pattern.Match(remote) {
				return target{r, registry.Name(local), remote, c}, true
			}
		}
		return target{}, false
	}
	if len(r.Content) == 0 {
		return target{r, registry.Name(local), upstream.Complete(r.Host, local), nil}, true
	}
	for i := range r.Content {
		c := &r.Content[i]
		if remote, ok := c.remote(r.Host, local); ok {
			return target{r, registry.Name(local), remote, c}, true
		}
		if full := upstream.Complete(r.Host, local); full != local {
			if remote, ok := c.remote(r.Host, full); ok {
				return target{r, registry.Name(local), remote, c}, true
			}
		}
	}
	return target{}, false
}

// cutHost cuts the registry's name from the front of a local name.
func (r *Rule) cutHost(local string) (string, bool) {
	first, rest, ok := strings.Cut(local, "/")
	return rest, ok && strings.ContainsRune(first, '.') && upstream.Canonical(first) == hostInPath(r.Host)
}

// targets returns what the rules say of a local name, in order: those of a name that
// begins with the host of one are that host's alone.
func (s *Service) targets(repo registry.Name) []target {
	first, _, _ := strings.Cut(string(repo), "/")
	set := s.set.Load()
	named := strings.ContainsRune(first, '.') && set.inPath[upstream.Canonical(first)]
	var all []target
	for _, r := range set.rules {
		if _, mine := r.cutHost(string(repo)); named && !mine {
			continue
		}
		if t, ok := r.match(string(repo)); ok {
			all = append(all, t)
		}
	}
	return all
}

// onDemand returns the targets that a client's request may be fetched from.
func (s *Service) onDemand(repo registry.Name) []target {
	all := s.targets(repo)
	n := 0
	for _, t := range all {
		if t.rule.OnDemand {
			all[n] = t
			n++
		}
	}
	return all[:n]
}

// maxUpstream is how long the name of an upstream may be.
const maxUpstream = 255

// route returns the local name for a repository of an upstream. The plain name is
// taken if it means that upstream here, too, and nobody has pushed there: who says
// which registry is meant does not mean our own. Else the host is put in front.
func (s *Service) route(ctx context.Context, host string, repo registry.Name) (registry.Name, error) {
	unknown := registry.ErrNameUnknown.With("no rule mirrors this registry's repository")
	if len(host) > maxUpstream {
		return "", unknown
	}
	host = upstream.Canonical(host)
	set := s.set.Load()
	if !set.byHost[host] {
		return "", unknown
	}
	remote := upstream.Complete(host, string(repo))
	for _, r := range set.rules {
		if r.Host != host {
			continue
		}
		if len(r.Content) == 0 {
			if name, ok := s.plain(ctx, r, remote, remote); ok {
				return name, nil
			}
		}
		for i := range r.Content {
			c := &r.Content[i]
			if !c.pattern.Match(remote) {
				continue
			}
			if name, ok := s.plain(ctx, r, c.local(remote), remote); ok {
				return name, nil
			}
		}
	}
	name, err := registry.ParseName(hostInPath(host) + "/" + remote)
	if err != nil {
		return "", unknown
	}
	all := s.onDemand(name)
	if len(all) == 0 {
		all = s.targets(name)
	}
	// Another registry of that host, on another port, is not meant.
	if len(all) == 0 || all[0].rule.Host != host {
		return "", unknown
	}
	return name, nil
}

// hostInPath returns the first component of names that mean a host. Ports have no
// place there.
func hostInPath(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return name
}

// plain returns local as a name if the first rule for it is r, for remote, and it is
// fetched into.
func (s *Service) plain(ctx context.Context, r *Rule, local, remote string) (registry.Name, bool) {
	name, err := registry.ParseName(local)
	if err != nil {
		return "", false
	}
	all := s.targets(name)
	if len(all) == 0 || all[0].rule != r || all[0].remote != remote {
		return "", false
	}
	claimed, err := s.isClaimed(ctx, name)
	return name, err == nil && !claimed
}

// nameRules gives each rule a name of its own: its host, with a number behind it if
// there are several.
func nameRules(rules []*Rule) {
	used := make(map[string]int)
	for _, r := range rules {
		r.Name = r.Host
		used[r.Host]++
		if n := used[r.Host]; n > 1 {
			r.Name += "#" + strconv.Itoa(n)
		}
	}
}

// check prepares a rule.
func (r *Rule) check() error {
	if len(r.Hosts) == 0 {
		return fmt.Errorf("rule %s has no URL", r.Name)
	}
	r.Push = cmp.Or(r.Push, registry.PushAllow)
	r.Conflict = cmp.Or(r.Conflict, ConflictOverwrite)
	for i := range r.Content {
		if err := r.Content[i].compile(); err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
	}
	return nil
}

// tooLarge is an error if the rule takes no blob of size bytes.
func (r *Rule) tooLarge(size int64) error {
	if r.MaxBlob <= 0 || size <= r.MaxBlob {
		return nil
	}
	return registry.ErrDenied.With("a blob of the upstream registry %s is larger than the %d bytes that maxBlobSize allows", r.Host, r.MaxBlob)
}
