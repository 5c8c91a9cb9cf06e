package gateway

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// parseRange reads a Range header (RFC 9110 §14.2) for content of size bytes. It
// returns the parts to send, in the order asked for, or nil if the whole content
// is to be sent: the header is absent, malformed or of another unit. Parts never
// overlap: what does is one part, so that no byte is sent twice. Parts that only
// touch stay apart, because containers/image counts them.
//
// If all ranges lie outside the content that is [registry.ErrRangeInvalid], as is
// one that ends before it starts: RFC 9110 would ignore that, distribution-spec's
// suite wants 416. More than maxRanges are [registry.ErrTooManyRanges].
func parseRange(header string, size int64) ([]registry.Range, error) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return nil, nil
	}
	var parts []registry.Range
	specs := 0
	for spec := range strings.SplitSeq(list, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // RFC 9110 §5.6.1: lists may have empty elements
		}
		if specs++; specs > maxRanges {
			return nil, registry.ErrTooManyRanges.With("more than %d ranges in one request: merge some", maxRanges)
		}
		part, ok := parseRangeSpec(spec, size)
		if !ok {
			return nil, nil
		}
		if part.Length > 0 {
			parts = append(parts, part)
		}
	}
	switch {
	case specs == 0:
		return nil, nil
	case len(parts) == 0:
		return nil, registry.ErrRangeInvalid
	}
	return merged(parts), nil
}

// parseRangeSpec reads one range. The part has no bytes if it lies outside the
// content. ok is false if spec is malformed.
func parseRangeSpec(spec string, size int64) (part registry.Range, ok bool) {
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return part, false
	}
	if from == "" { // the last n bytes
		n, ok := parsePos(to)
		n = min(n, size)
		return registry.Range{Offset: size - n, Length: n}, ok
	}
	first, ok := parsePos(from)
	if !ok {
		return part, false
	}
	last := int64(math.MaxInt64)
	if to != "" {
		if last, ok = parsePos(to); !ok {
			return part, false
		}
	}
	if last < first || first >= size {
		return part, true
	}
	last = min(last, size-1)
	return registry.Range{Offset: first, Length: last - first + 1}, true
}

// merged makes one part of those that overlap, in the place of the first of them.
func merged(parts []registry.Range) []registry.Range {
	if len(parts) == 1 {
		return parts
	}
	type placed struct {
		registry.Range
		place int
	}
	all := make([]placed, len(parts))
	for i, p := range parts {
		all[i] = placed{p, i}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.Offset, b.Offset) })
	kept := all[:1]
	for _, p := range all[1:] {
		last := &kept[len(kept)-1]
		if p.Offset >= last.Offset+last.Length {
			kept = append(kept, p)
			continue
		}
		last.Length = max(last.Length, p.Offset+p.Length-last.Offset)
		last.place = min(last.place, p.place)
	}
	slices.SortFunc(kept, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	parts = parts[:len(kept)]
	for i, p := range kept {
		parts[i] = p.Range
	}
	return parts
}

// parsePos reads a position. One too large for an int64 is as good as the
// largest int64: nothing is that long.
func parsePos(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// parseContentRange reads the Content-Range of an upload's chunk and returns its
// offset and length. The form is "0-99" (distribution-spec, "Pushing a blob in
// chunks"); "bytes 0-99/100" (RFC 9110 §14.4, the total may be "*") and
// "bytes=0-99" are sent, too. Anything else is [registry.ErrRangeInvalid].
// A chunk of no bytes at n > 0 is written "n-(n-1)".
func parseContentRange(header string) (offset, length int64, err error) {
	spec := header
	if rest, ok := strings.CutPrefix(spec, "bytes"); ok {
		if rest == "" || rest[0] != ' ' && rest[0] != '=' {
			return 0, 0, errContentRange
		}
		spec = strings.TrimLeft(rest[1:], " ")
		if before, total, ok := strings.Cut(spec, "/"); ok {
			if _, digits := parsePos(total); !digits && total != "*" {
				return 0, 0, errContentRange
			}
			spec = before
		}
	}
	from, to, _ := strings.Cut(spec, "-")
	first, ok1 := parsePos(from)
	last, ok2 := parsePos(to)
	if !ok1 || !ok2 || last < first-1 || last == math.MaxInt64 {
		return 0, 0, errContentRange
	}
	return first, last - first + 1, nil
}

var errContentRange = registry.ErrRangeInvalid.With(`Content-Range must have the form "<first>-<last>"`)
