package outbound

import (
	"errors"
	"net/http"
)

// ErrRedirects is the error of a redirect that is not followed.
var ErrRedirects = errors.New("the peer redirects where we don't follow")

// harmless are the headers that a request may take to another origin.
var harmless = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "User-Agent": true, "Range": true, "If-Range": true,
	"If-None-Match": true, "If-Modified-Since": true, "Content-Type": true,
}

// redirect decides on the next request of a chain, and takes out of it what must
// not go there. It runs after net/http has copied headers.
func (c *Client) redirect(r *http.Request, via []*http.Request) error {
	if c.o.Redirects < 0 {
		return http.ErrUseLastResponse
	}
	if len(via) > c.o.Redirects {
		return ErrRedirects
	}
	last := via[len(via)-1]
	if last.URL.Scheme == "https" && r.URL.Scheme != "https" {
		return ErrRedirects
	}
	r.Header.Del("Referer") // may hold a signed query
	foreign := Origin(r.URL) != Origin(via[0].URL)
	for _, v := range via[1:] { // who has left does not come back with secrets
		foreign = foreign || Origin(v.URL) != Origin(via[0].URL)
	}
	if !foreign {
		return nil
	}
	if r.Body != nil && r.Body != http.NoBody {
		return ErrRedirects // 307 and 308 of a POST: a form may hold a secret
	}
	for name := range r.Header {
		if !harmless[http.CanonicalHeaderKey(name)] {
			delete(r.Header, name)
		}
	}
	r.Host = ""
	return nil
}
