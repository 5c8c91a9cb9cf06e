package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/berth-registry/berth/registry/config"
)

// specVersion is the distribution-spec release that is implemented in full.
const specVersion = "1.1.1"

// base answers GET /v2/, by which clients see that this is a registry and
// whether their credentials are good. As with zot, whoever is let in is told how to
// authenticate all the same: they may be anonymous.
func (g *Gateway) base(x *exchange) error {
	if c := g.auth.Load(); !c.Open() {
		if challenge := c.Challenge(x.r, g.wants(x)); challenge != "" {
			x.set("Www-Authenticate", challenge)
		}
	}
	return x.bytes(http.StatusOK, "application/json", []byte(`{"distSpecVersion":"`+specVersion+`"}`))
}

// extension is an entry of the discovery list (distribution-spec, "Extensions").
type extension struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Description string   `json:"description"`
	Endpoints   []string `json:"endpoints"`
}

// discover answers GET /v2/_oci/ext/discover.
func (g *Gateway) discover(x *exchange) error {
	e := extension{
		Name:        "_zot",
		URL:         "https://github.com/project-zot/zot/blob/main/pkg/extensions/_zot.md",
		Description: "zot registry extensions",
		Endpoints:   []string{"/v2/_zot/ext/mgmt", "/v2/_zot/ext/userprefs"},
	}
	if g.search != nil {
		e.Endpoints = append([]string{"/v2/_zot/ext/search"}, e.Endpoints...)
	}
	for _, tool := range g.gate.Load().Tools() {
		e.Endpoints = append(e.Endpoints, "/v2/_zot/ext/"+tool)
	}
	return x.json(struct {
		Extensions []extension `json:"extensions"`
	}{[]extension{e}})
}

// mgmt answers GET /v2/_zot/ext/mgmt, which tells zot's clients what the server
// is and how to authenticate.
func (g *Gateway) mgmt(x *exchange) error {
	type httpPart struct {
		Auth *MgmtAuth `json:"auth,omitempty"`
	}
	return x.json(struct {
		SpecVersion string   `json:"distSpecVersion"`
		Commit      string   `json:"commit"`
		ReleaseTag  string   `json:"releaseTag"`
		BinaryType  string   `json:"binaryType"`
		HTTP        httpPart `json:"http"`
	}{specVersion, g.cfg.Commit, g.cfg.Version, g.binaryType(), httpPart{g.mgmtAuth.Load()}})
}

// binaryType tells what is in the program in the form that zot has it in: the names of
// its extensions, each behind a dash.
func (g *Gateway) binaryType() string {
	names := []string{"events", "imagetrust", "lint", "metrics", "mgmt", "scrub"}
	if g.searches {
		names = append(names, "search")
	}
	return "-" + strings.Join(append(names, "sync", "userprefs"), "-")
}

// MgmtAuth says how clients can authenticate, in the words of zot's mgmt endpoint.
type MgmtAuth struct {
	HTPasswd *struct{}   `json:"htpasswd,omitempty"`
	Bearer   *MgmtBearer `json:"bearer,omitempty"`
	LDAP     *struct{}   `json:"ldap,omitempty"`
	OpenID   *MgmtOpenID `json:"openid,omitempty"`
	APIKey   bool        `json:"apikey,omitempty"`
}

// MgmtBearer is the token server of zot's bearer method.
type MgmtBearer struct {
	Realm   string `json:"realm,omitempty"`
	Service string `json:"service,omitempty"`
}

// MgmtOpenID are the places to log in, by name.
type MgmtOpenID struct {
	Providers map[string]MgmtProvider `json:"providers,omitempty"`
}

// MgmtProvider is a place to log in.
type MgmtProvider struct {
	Name string `json:"name,omitempty"` // on the button
}

// mgmtAuth returns what mgmt says of a config file.
func mgmtAuth(a *config.Auth) *MgmtAuth {
	if a == nil {
		return nil
	}
	m := &MgmtAuth{APIKey: a.APIKey || a.OpenID != nil}
	if a.Bearer != nil {
		m.Bearer = &MgmtBearer{a.Bearer.Realm, a.Bearer.Service}
	}
	if a.HTPasswd != nil {
		m.HTPasswd = new(struct{})
	}
	if a.LDAP != nil {
		m.LDAP = new(struct{})
	}
	if a.OpenID != nil {
		m.OpenID = &MgmtOpenID{Providers: make(map[string]MgmtProvider)}
		for name, p := range a.OpenID.Providers {
			m.OpenID.Providers[name] = MgmtProvider{Name: p.Name}
		}
	}
	return m
}

// json answers 200 with v.
func (x *exchange) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return doing("writing JSON", err)
	}
	return x.bytes(http.StatusOK, "application/json", append(b, '\n'))
}
