package gateway

import (
	"math"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// parseRange reads a Range header (RFC 9110 §14.2) for content of size bytes.
// part is false if the whole content is to be sent: the header is absent,
// malformed, of another unit, or asks for more than one range. A range outside
// the content is [registry.ErrRangeInvalid], as is one that ends before it
// starts: RFC 9110 would ignore that, distribution-spec's suite wants 416.
func parseRange(header string, size int64) (r registry.Range, part bool, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return registry.Whole, false, nil
	}
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return registry.Whole, false, nil
	}
	if from == "" { // the last n bytes
		n, ok := parsePos(to)
		switch {
		case !ok:
			return registry.Whole, false, nil
		case n == 0 || size == 0:
			return registry.Range{}, false, registry.ErrRangeInvalid
		}
		n = min(n, size)
		return registry.Range{Offset: size - n, Length: n}, true, nil
	}
	first, ok := parsePos(from)
	if !ok {
		return registry.Whole, false, nil
	}
	last := int64(math.MaxInt64)
	if to != "" {
		if last, ok = parsePos(to); !ok {
			return registry.Whole, false, nil
		}
	}
	if last < first || first >= size {
		return registry.Range{}, false, registry.ErrRangeInvalid
	}
	last = min(last, size-1)
	return registry.Range{Offset: first, Length: last - first + 1}, true, nil
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
