package gateway

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// audit records a request that is to be remembered: one that changes something, or
// tries to, reads what is for administrators, or shows who somebody is. It runs
// before the end of the answer is sent.
func (g *Gateway) audit(x *exchange, err error) {
	if x.resource == noResource || x.status == 0 {
		return
	}
	now := time.Now()
	if action := loginOf(x); action != "" {
		g.login(x, action, now)
	}
	if x.resource == identityPath {
		g.auditIdentity(x, now)
		return
	}
	if x.actor.Request == nil {
		// Refused before it was asked who that is: there is no such method. It would
		// let anybody fill the log.
		return
	}
	action, object := auditOf(x)
	if action == "" || failedLogin(x) {
		return // a login that failed has an event already
	}
	result := resultOf(x, err)
	if x.known && x.actor.ID == "" && result != "ok" && !g.recorded(&g.strangers, x, now) {
		return
	}
	g.auditor.record(x.event(now, x.actor.ID, action, object, result), x)
}

// event returns an event about the request.
func (x *exchange) event(now time.Time, actor, action, object, result string) registry.AuditEvent {
	source := x.r.RemoteAddr
	if host, _, err := net.SplitHostPort(source); err == nil {
		source = host
	}
	at := now.UnixMicro()
	return registry.AuditEvent{
		ID: registry.NewAuditID(at), At: at, Actor: clipAudit(actor), Source: clipAudit(source), Action: clipAudit(action), Object: clipAudit(object),
		Status: x.status, Result: result, RequestID: x.ctx.ID,
	}
}

// clipAudit returns a text that may wait: not a part of the request, which would stay
// in memory with it.
func clipAudit(s string) string {
	if len(s) > registry.MaxAuditText {
		s = s[:registry.MaxAuditText]
	}
	return strings.Clone(strings.ToValidUTF8(s, "\ufffd"))
}

// resultOf says what the answer means.
func resultOf(x *exchange, err error) string {
	switch {
	case err != nil:
		return registry.AsError(err).Code.OCI()
	case x.status >= 400:
		return "HTTP_" + strconv.Itoa(x.status)
	}
	return "ok"
}

// failedLogin reports whether the request brings credentials that are wrong.
func failedLogin(x *exchange) bool {
	return x.status == http.StatusUnauthorized && !x.narrow && x.actor.ID == "" && x.header("Authorization") != ""
}

// loginOf returns the action that a request is besides what it asks for, "" if it is
// none.
func loginOf(x *exchange) string {
	switch {
	case failedLogin(x):
		return "login.failed"
	case x.actor.ID != "" && x.status < 400:
		return "login"
	}
	return ""
}

// loginAgain is for how long the requests of a user from an address are one login.
const loginAgain = time.Hour

// login records that somebody came in, or that somebody was kept out.
func (g *Gateway) login(x *exchange, action string, now time.Time) {
	method, _, _ := strings.Cut(x.header("Authorization"), " ")
	switch method = strings.ToLower(method); method {
	case "basic", "bearer":
	default:
		method = "other" // a session, a certificate, or what is no method
	}
	actor, result := x.actor.ID, "ok"
	if action == "login.failed" {
		result = registry.Unauthorized.OCI()
		actor, _, _ = x.r.BasicAuth()
		bound := &g.guesses
		if actor == "" { // no password, but a token that somebody made up
			bound = &g.strangers
		}
		if !g.recorded(bound, x, now) {
			return
		}
	} else if !g.auditor.first(actor, x.r.RemoteAddr, now) {
		return
	}
	g.auditor.record(x.event(now, actor, action, method, result), x)
}

// auditOf returns what a request asks for and of what, "" if that is not recorded.
func auditOf(x *exchange) (action, object string) {
	switch x.resource {
	case restAPI:
		path := x.r.URL.Path
		if q := x.r.URL.Query(); path == "/api/v1/users" || path == "/api/v1/keys" || path == "/api/v1/trust" {
			for _, name := range []string{q.Get("user"), q.Get("id")} {
				if name != "" {
					path += " " + name
				}
			}
		}
		if !x.reading() {
			return "api." + strings.ToLower(x.r.Method), path
		}
		if administrative(path) {
			return "admin.read", path
		}
		return "", ""
	case manifest:
		switch x.r.Method {
		case http.MethodPut:
			return "manifest.put", x.named()
		case http.MethodDelete:
			return "manifest.delete", x.named()
		}
	case blob:
		if x.r.Method == http.MethodDelete {
			return "blob.delete", x.named()
		}
	case uploads, upload:
		switch {
		case x.r.Method == http.MethodDelete:
			return "upload.delete", string(x.repo)
		case x.status == http.StatusAccepted || x.reading(): // begun, or went on
			return "", ""
		case x.r.Method == http.MethodPatch && x.status != http.StatusForbidden && x.status != http.StatusUnauthorized:
			return "", "" // a part that failed may be sent again; nothing changed
		case x.status == http.StatusCreated && x.r.Method == http.MethodPost && x.r.URL.Query().Has("mount"):
			return "blob.mount", x.pushed("mount")
		default:
			return "blob.put", x.pushed("digest")
		}
	case searchAPI: // by POST, too, it only reads
	default:
		if !x.reading() && x.r.Method != http.MethodOptions {
			return strings.ToLower(x.r.Method), x.r.URL.Path
		}
	}
	return "", ""
}

// administrative reports whether a path of the REST API tells what is for
// administrators: all but what it says of repositories.
func administrative(path string) bool {
	rest := strings.TrimPrefix(path, "/api/v1/")
	first, _, _ := strings.Cut(rest, "/")
	switch first {
	case "repositories", "health", "openapi.json", "openapi":
		return false
	}
	return true
}

// named returns the manifest or blob that the path names.
func (x *exchange) named() string {
	switch {
	case x.ref.Tag != "":
		return string(x.repo) + ":" + string(x.ref.Tag)
	case x.ref.Digest != "":
		return string(x.repo) + "@" + x.ref.Digest.String()
	}
	return string(x.repo)
}

// pushed returns the blob that a parameter names, or the repository.
func (x *exchange) pushed(param string) string {
	if d, err := registry.ParseDigest(x.r.URL.Query().Get(param)); err == nil {
		return string(x.repo) + "@" + d.String()
	}
	return string(x.repo)
}
