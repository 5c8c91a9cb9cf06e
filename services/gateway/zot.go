package gateway

import (
	"encoding/json"
	"net/http"
)

// specVersion is the distribution-spec release that is implemented in full.
const specVersion = "1.1.1"

// base answers GET /v2/, by which clients see that this is a registry and
// whether their credentials are good.
func (g *Gateway) base(x *exchange) error {
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
	return x.json(struct {
		Extensions []extension `json:"extensions"`
	}{[]extension{{
		Name:        "_zot",
		URL:         "https://github.com/project-zot/zot/blob/main/pkg/extensions/_zot.md",
		Description: "zot registry extensions",
		Endpoints:   []string{"/v2/_zot/ext/mgmt"},
	}}})
}

// mgmt answers GET /v2/_zot/ext/mgmt, which tells zot's clients what the server
// is and how to authenticate.
func (g *Gateway) mgmt(x *exchange) error {
	type auth struct{}
	type httpPart struct {
		Auth *auth `json:"auth,omitempty"`
	}
	return x.json(struct {
		SpecVersion string   `json:"distSpecVersion"`
		Commit      string   `json:"commit"`
		ReleaseTag  string   `json:"releaseTag"`
		BinaryType  string   `json:"binaryType"`
		HTTP        httpPart `json:"http"`
	}{specVersion, g.cfg.Commit, g.cfg.Version, "berth", httpPart{}})
}

// json answers 200 with v.
func (x *exchange) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return doing("writing JSON", err)
	}
	return x.bytes(http.StatusOK, "application/json", append(b, '\n'))
}
