package gateway

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// paging is what a client asks of a list with n and last (distribution-spec,
// "Listing Tags").
type paging struct {
	n    int // -1: everything
	last string
}

// paging reads n and last. A large n is cut, not refused: a proxy in front may
// pass on any number.
func (x *exchange) paging() (paging, error) {
	p := paging{n: -1, last: x.param("last")}
	if err := checkCursor(p.last); err != nil {
		return paging{}, err
	}
	if len(x.params("n")) == 0 {
		return p, nil
	}
	n, ok := parsePos(x.param("n"))
	if !ok {
		return paging{}, registry.ErrPageInvalid.With("n must be a number, 0 or more")
	}
	p.n = int(min(n, registry.MaxPage))
	return p, nil
}

// checkCursor refuses what no name, tag or digest can be compared with. The
// entry itself need not exist.
func checkCursor(last string) error {
	if len(last) > maxCursor {
		return registry.ErrPageInvalid.With("last is longer than %d bytes", maxCursor)
	}
	for i := range len(last) {
		if last[i] <= ' ' || last[i] > '~' {
			return registry.ErrPageInvalid.With("last is not an entry of the list")
		}
	}
	return nil
}

// link sets the Link header to the page behind last (RFC 8288).
func (x *exchange) link(path, last string, n int, more url.Values) {
	var b strings.Builder
	b.WriteString("<" + path + "?last=" + url.QueryEscape(last))
	if n >= 0 {
		b.WriteString("&n=" + strconv.Itoa(n))
	}
	if q := more.Encode(); q != "" {
		b.WriteString("&" + q)
	}
	b.WriteString(`>; rel="next"`)
	x.set("Link", b.String())
}

// names answers with a list of names as JSON: head, the names, "]}". With n it
// is one page and maybe a Link; without it is complete, written page by page as
// the Catalog delivers, so that it takes no memory to speak of.
func names[T ~string](x *exchange, path, head string, p paging, list func(context.Context, registry.Page[T]) (registry.List[T], error)) error {
	ctx := x.context()
	page := registry.Page[T]{After: T(p.last), Limit: pageSize}
	if p.n >= 0 {
		page.Limit = max(p.n, 1)
	}
	l, err := list(ctx, page)
	if err != nil {
		return err
	}
	if p.n == 0 {
		l = registry.List[T]{}
	}
	// The Catalog may have sent less than was asked for.
	for l.More && len(l.Items) < p.n {
		page.After, page.Limit = l.Items[len(l.Items)-1], p.n-len(l.Items)
		next, err := list(ctx, page)
		if err != nil {
			return err
		}
		if len(next.Items) == 0 {
			next.More = false
		}
		l.Items, l.More = append(l.Items, next.Items...), next.More
	}
	buf := appendNames(append(make([]byte, 0, 4096), head...), l.Items, true)
	if p.n >= 0 || !l.More {
		if l.More && len(l.Items) > 0 {
			x.link(path, string(l.Items[len(l.Items)-1]), p.n, nil)
		}
		return x.bytes(http.StatusOK, "application/json", append(buf, "]}\n"...))
	}
	x.set("Content-Type", "application/json")
	x.start(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return nil
	}
	for l.More && len(l.Items) > 0 {
		if err := x.write(buf); err != nil {
			return err
		}
		page.After = l.Items[len(l.Items)-1]
		if l, err = list(ctx, page); err != nil {
			return err
		}
		buf = appendNames(buf[:0], l.Items, false)
	}
	return x.write(append(buf, "]}\n"...))
}

// appendNames appends names as members of a JSON array. Names and tags are made
// of characters that need no escape; see [registry.ParseName].
func appendNames[T ~string](b []byte, names []T, first bool) []byte {
	for _, n := range names {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, n...)
		b = append(b, '"')
	}
	return b
}
