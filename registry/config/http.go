package config

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// HTTP is the gateway's section.
type HTTP struct {
	Address       string         `json:"address"` // a host or IP address, or unix:PATH
	Port          string         `json:"port"`    // a number or service name; "0" or "": any free port
	ExternalURL   string         `json:"externalUrl"`
	AllowOrigin   string         `json:"allowOrigin"`  // comma list; empty: any
	ReadTimeout   time.Duration  `json:"readTimeout"`  // without a byte received; 0 or less: none
	WriteTimeout  time.Duration  `json:"writeTimeout"` // without a byte sent; 0 or less: none
	Realm         string         `json:"realm"`
	TLS           *TLS           `json:"tls"`
	Ratelimit     *Ratelimit     `json:"ratelimit"`
	Connections   *Connections   `json:"connections"`
	Compat        []string       `json:"compat"` // see AcceptsDocker
	Auth          *Auth          `json:"auth"`
	AccessControl *AccessControl `json:"accessControl"`

	UploadsPerClient int `json:"uploadsPerClient"` // 0: any number
	OpenUploads      int `json:"openUploads"`      // of a client; 0: any number
}

// Endpoint returns where the gateway listens, as net.Listen takes it: "tcp" and
// host:port, or "unix" and a path, if Address is unix:PATH or unix:///PATH.
func (h HTTP) Endpoint() (network, address string) {
	if path, ok := h.socket(); ok {
		return "unix", path
	}
	return "tcp", net.JoinHostPort(h.host(), h.Port)
}

// host returns Address, which may be an IPv6 address in brackets, as in a URL.
func (h HTTP) host() string {
	if inner, ok := strings.CutPrefix(h.Address, "["); ok {
		return strings.TrimSuffix(inner, "]")
	}
	return h.Address
}

// socket returns the path if Address names a unix socket.
func (h HTTP) socket() (path string, ok bool) {
	path, ok = strings.CutPrefix(h.Address, "unix:")
	if rest, slashes := strings.CutPrefix(path, "//"); slashes {
		path = rest
	}
	return path, ok
}

// Local reports whether only this machine can reach the gateway.
func (h HTTP) Local() bool {
	_, ok := h.socket()
	return ok || loopback(h.host())
}

// Encrypted reports whether the gateway speaks TLS.
func (h HTTP) Encrypted() bool { return h.TLS != nil && h.TLS.Cert != "" }

// Docker is the http.compat value for Docker's own image types.
const Docker = "docker2s2"

// AcceptsDocker reports whether Docker schema 2 manifests and lists may be
// pushed. They may, unless http.compat is there and does not list them.
func (h HTTP) AcceptsDocker() bool {
	return h.Compat == nil || slices.Contains(h.Compat, Docker)
}

// TLS names certificate files.
type TLS struct {
	Cert   string `json:"cert"`
	Key    string `json:"key"`
	CACert string `json:"cacert"` // who may present a certificate to us
}

// Ratelimit holds requests per second of one client.
type Ratelimit struct {
	Rate       int           `json:"rate"` // over all methods; 0: none
	Methods    []MethodLimit `json:"methods"`
	Concurrent int           `json:"concurrent"` // in progress; 0: any number
}

// Connections bounds connections.
type Connections struct {
	Max        int `json:"max"`        // 0: by the file descriptors of the process; negative: none
	PerAddress int `json:"perAddress"` // 0: none
}

// MethodLimit is the limit of one HTTP method.
type MethodLimit struct {
	Method string `json:"method"`
	Rate   int    `json:"rate"`
}

// AccessControl says who may do what in which repositories; the patterns and the
// names of groups are in lower case. The other names are of its parts.
type (
	AccessControl    = registry.AccessRules
	RepositoryPolicy = registry.RepositoryRules
	Policy           = registry.AccessPolicy
	Condition        = registry.AccessCondition
	Group            = registry.AccessGroup
	MetricsAccess    = registry.MetricsRules
)
