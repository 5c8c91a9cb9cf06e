package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// handler answers a request whose path, method and actor are known. An error it
// returns is answered by [Gateway.fail] if the header is not out yet, and ends
// the connection otherwise.
type handler func(*Gateway, *exchange) error

// methods is a row of the handler table.
type methods struct {
	get, post, put, patch, del handler // HEAD is served by get
	allow                      string
}

// table is the route table: every resource and what can be done with it.
func table() [nResources]methods {
	t := [nResources]methods{
		rootPage:    {get: (*Gateway).root},
		livez:       {get: (*Gateway).live},
		readyz:      {get: (*Gateway).ready},
		startupz:    {get: (*Gateway).live},
		metricsPage: {get: (*Gateway).scrape},
		apiBase:     {get: (*Gateway).base},
		catalog:     {get: (*Gateway).repositories},
		discover:    {get: (*Gateway).discover},
		mgmt:        {get: (*Gateway).mgmt},
		cosignKeys:  {post: (*Gateway).trustCosign},
		notaryCerts: {post: (*Gateway).trustNotation},
		searchAPI:   {get: (*Gateway).searchFor, post: (*Gateway).searchFor},
		userPrefs:   {put: (*Gateway).prefer},
		tagList:     {get: (*Gateway).tags},
		manifest:    {get: (*Gateway).manifestGet, put: (*Gateway).manifestPut, del: (*Gateway).manifestDelete},
		blob:        {get: (*Gateway).blobGet, del: (*Gateway).blobDelete},
		uploads:     {post: (*Gateway).uploadStart},
		upload:      {get: (*Gateway).uploadStatus, put: (*Gateway).uploadFinish, patch: (*Gateway).uploadAppend, del: (*Gateway).uploadAbort},
		referrers:   {get: (*Gateway).referrers},
	}
	for i := range t {
		t[i].allow = t[i].allowed()
	}
	return t
}

func (m *methods) handler(method string) handler {
	switch method {
	case http.MethodGet, http.MethodHead:
		return m.get
	case http.MethodPost:
		return m.post
	case http.MethodPut:
		return m.put
	case http.MethodPatch:
		return m.patch
	case http.MethodDelete:
		return m.del
	}
	return nil
}

// allowed returns the value of the Allow header.
func (m *methods) allowed() string {
	all := []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPost, http.MethodPut}
	have := slices.DeleteFunc(all, func(method string) bool { return m.handler(method) == nil })
	return strings.Join(append(have, http.MethodOptions), ", ")
}

// options answers a question for the methods of a resource. It needs no rights:
// browsers ask without credentials.
func (g *Gateway) options(x *exchange, ms *methods) error {
	x.set("Allow", ms.allow)
	if ms.get != nil {
		x.set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		x.set("Access-Control-Allow-Headers", "Authorization,content-type,X-ZOT-API-CLIENT")
	}
	switch x.resource {
	case searchAPI: // where POST changes nothing
		x.set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
	case userPrefs:
		x.set("Access-Control-Allow-Methods", "PUT, OPTIONS")
		x.set("Access-Control-Allow-Headers", "Authorization,content-type,X-ZOT-API-CLIENT")
	}
	x.empty(http.StatusNoContent)
	return nil
}

// crossOrigin tells requests of other sites apart, by Sec-Fetch-Site or Origin.
var crossOrigin = http.NewCrossOriginProtection()

// fromElsewhere returns [registry.ErrDenied] for a POST that changes something and that a
// page of another site had a browser send. It could not read the answer, but a browser
// adds certificates and passwords that it knows, and asks nobody before; before other
// methods it asks, see options.
func fromElsewhere(x *exchange) error {
	if x.r.Method != http.MethodPost || x.resource == searchAPI {
		return nil
	}
	if err := crossOrigin.Check(x.r); err != nil {
		return registry.ErrDenied.With("a page of another site sent this request").Because(err)
	}
	return nil
}

// allowOrigin lets scripts of an allowed origin read the answer (CORS).
func (g *Gateway) allowOrigin(x *exchange, origin string) {
	if len(x.settings.AllowOrigin) == 0 {
		x.set("Access-Control-Allow-Origin", "*")
		return
	}
	if slices.Contains(x.settings.AllowOrigin, origin) {
		x.set("Access-Control-Allow-Origin", origin)
	}
}
