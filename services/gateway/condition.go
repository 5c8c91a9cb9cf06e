package gateway

import (
	"errors"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// etag returns the entity tag of content (RFC 9110 §8.8.3). It is strong: a
// digest names bytes.
func etag(d registry.Digest) string { return `"` + string(d) + `"` }

// matchesNone reports whether If-None-Match lets a reader do with what it has
// (RFC 9110 §13.1.2; the comparison is weak).
func matchesNone(header []string, tag string) bool {
	for _, line := range header {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.TrimPrefix(strings.Trim(item, " \t"), "W/")
			if item == tag || item == "*" {
				return true
			}
		}
	}
	return false
}

// ifRange reports whether a Range is to be honoured (RFC 9110 §13.1.5). A date
// or a weak tag never matches: we know of no date.
func ifRange(header, tag string) bool { return header == "" || header == tag }

// condition turns If-Match and If-None-Match of a change into one of the
// Catalog's. It is about the tags that the request sets or removes; a request that
// names a digest and no tag is about the manifest with that digest, which is there
// or is not. A list, or "*", needs to know the value now; the change of a tag then
// depends on that very value, so what happens in between can't be lost.
func (g *Gateway) condition(x *exchange, tags int) (registry.Condition, error) {
	match, none := etags(x.r.Header["If-Match"]), etags(x.r.Header["If-None-Match"])
	switch {
	case len(match)+len(none) > maxETags:
		return registry.Condition{}, registry.ErrPreconditionFailed.With("more than %d entity tags", maxETags)
	case len(match) == 0 && len(none) == 0:
		return registry.Condition{}, nil
	case tags == 0:
	case len(match) == 0 && slices.Equal(none, []string{"*"}):
		return registry.Condition{Absent: true}, nil
	case len(match) == 1 && match[0] != "*" && len(none) == 0:
		d, err := digestOf(match[0])
		return registry.Condition{Match: d}, err
	case x.ref.Tag == "":
		return registry.Condition{}, registry.ErrPreconditionFailed.With("with a digest and tags only If-None-Match: * or If-Match with one digest is understood")
	}
	m, err := g.catalog.Manifest(x.context(), x.actor, x.repo, registry.ManifestQuery{Ref: x.ref, NoBytes: true})
	now, exists := etag(m.Digest), err == nil
	if err != nil && !errors.Is(err, registry.ErrManifestUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		return registry.Condition{}, doing("resolving a manifest for a condition", err)
	}
	if len(match) > 0 && (!exists || !slices.Contains(match, "*") && !slices.Contains(match, now)) {
		return registry.Condition{}, registry.ErrPreconditionFailed
	}
	if exists && (slices.Contains(none, "*") || slices.Contains(none, now)) {
		return registry.Condition{}, registry.ErrPreconditionFailed
	}
	switch {
	case tags == 0:
		return registry.Condition{}, nil // what a digest names never changes
	case !exists:
		return registry.Condition{Absent: true}, nil
	}
	return registry.Condition{Match: m.Digest}, nil
}

// etags returns the members of a list of entity tags. Digests hold no comma.
func etags(header []string) []string {
	var all []string
	for _, line := range header {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.Trim(item, " \t"); item != "" && len(all) <= maxETags {
				all = append(all, item)
			}
		}
	}
	return all
}

// digestOf reads an entity tag of ours. Any other one matches nothing there is.
func digestOf(tag string) (registry.Digest, error) {
	s, ok1 := strings.CutPrefix(tag, `"`)
	s, ok2 := strings.CutSuffix(s, `"`)
	if !ok1 || !ok2 {
		return "", registry.ErrPreconditionFailed
	}
	d, err := registry.ParseDigest(s)
	if err != nil {
		return "", registry.ErrPreconditionFailed
	}
	return d, nil
}
