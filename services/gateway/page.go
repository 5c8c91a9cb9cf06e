package gateway

import (
	"html"
	"net/http"
	"strings"
)

// page is the page at "/": what this is and how to use it. It is plain text in
// HTML, made without html/template, which would cost a megabyte of program.
type page struct {
	version, host string
}

func (p *page) init(cfg Config) { p.version, p.host = cfg.Version, cfg.Host }

// root answers GET /.
func (g *Gateway) root(x *exchange) error {
	x.set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	x.set("X-Frame-Options", "DENY")
	x.set("Referrer-Policy", "no-referrer")
	x.set("Cross-Origin-Opener-Policy", "same-origin")
	x.set("Cross-Origin-Resource-Policy", "same-origin")
	x.set("Cache-Control", "no-store") // it may hold a Host that someone made up
	host := x.settings.page.host
	if host == "" {
		host = x.r.Host
	}
	return x.bytes(http.StatusOK, "text/html; charset=utf-8", x.settings.page.render(host))
}

// render returns the page for a registry that clients know as host.
func (p *page) render(host string) []byte {
	if host == "" || len(host) > 255 {
		host = "registry.example"
	}
	host = html.EscapeString(host)
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Berth</title></head>\n<body>\n<h1>Berth")
	if p.version != "" {
		b.WriteString(" " + html.EscapeString(p.version))
	}
	b.WriteString("</h1>\n<p>This is a registry for container images and other OCI artifacts.</p>\n<h2>Push</h2>\n<pre>docker tag alpine ")
	b.WriteString(host + "/alpine:3\ndocker push " + host + "/alpine:3</pre>\n<h2>Pull</h2>\n<pre>docker pull " + host + "/alpine:3</pre>\n")
	b.WriteString("<p><a href=\"/v2/_catalog\">Repositories</a></p>\n</body>\n</html>\n")
	return []byte(b.String())
}
