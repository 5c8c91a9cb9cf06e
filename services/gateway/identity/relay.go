package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
)

// Relay passes requests for tokens on to the token server of somebody else, whose tokens
// are accepted here. Of a request it passes on what the protocol has (distribution, "Token
// Authentication Specification") and the credentials; of the answer, the token.
type Relay struct {
	// Realm is the URL of the token server, and Service what it knows the registry as.
	Realm, Service string
	HTTP           *http.Client
}

// maxTokenAnswer bounds the answer of a token server.
const maxTokenAnswer = 256 << 10

// relayed are the parameters that are passed on.
var relayed = []string{"scope", "account", "client_id", "offline_token", "access_type", "grant_type", "refresh_token", "username", "password"}

// configuredRelay returns the relay of a config file, nil if it has none. Where tokens of
// issuers are exchanged for ours, our own token service answers.
func configuredRelay(c *config.Config, p daemon.Process) (*Relay, error) {
	if c.HTTP.Auth == nil || c.HTTP.Auth.Bearer == nil || len(c.HTTP.Auth.Bearer.OIDC) > 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	u := c.HTTP.Auth.Bearer.UpstreamTokenEndpoint
	if u == nil || u.Realm == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	rules, err := c.Outbound.Rules()
	if err != nil {
		return nil, err
	}
	client, err := outbound.New(outbound.Options{
		Purpose: "token", Rules: rules, Named: []string{u.Realm}, PlainHTTP: u.AllowInsecureHTTP, Redirects: -1, MaxBody: maxTokenAnswer, Log: p.Log, Metrics: p.Metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("http.auth.bearer.upstreamTokenEndpoint: %w", err)
	}
	return &Relay{u.Realm, u.Service, client.HTTP()}, nil
}

// Only reports whether the service does nothing but pass requests for tokens on: it
// knows no credentials itself. It may be called on nil.
func (s *Service) Only() bool { return s != nil && s.o.Relay != nil }

// relay serves /zot/auth/token.
func (s *Service) relay(w http.ResponseWriter, r *http.Request) error {
	var form url.Values
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		form = r.URL.Query()
		for _, secret := range []string{"password", "refresh_token", "username", "grant_type"} { // what a URL holds is in many logs
			form.Del(secret)
		}
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
		if err := r.ParseForm(); err != nil {
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				return registry.ErrTooLarge.With("the body has at most %d bytes", maxTokenRequest)
			}
			return registry.ErrParameterInvalid.With("the body is not a form")
		}
		form = r.PostForm
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		return registry.ErrUnsupported
	}
	user, _, _ := r.BasicAuth()
	if user == "" {
		user = form.Get("username")
	}
	body, err := s.o.Relay.ask(r.Context(), r, form)
	s.event(r, "token.relay", cut(user, registry.MaxAuditText), cut(strings.Join(form["scope"], " "), registry.MaxAuditText), err)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(body)
	return err
}

// ask returns the token server's answer, which has a token in it.
func (y *Relay) ask(ctx context.Context, r *http.Request, form url.Values) ([]byte, error) {
	q := url.Values{}
	for _, name := range relayed {
		if values := form[name]; len(values) > 0 {
			q[name] = values
		}
	}
	q.Set("service", y.Service)
	var out *http.Request
	var err error
	if r.Method == http.MethodPost {
		if out, err = http.NewRequestWithContext(ctx, http.MethodPost, y.Realm, strings.NewReader(q.Encode())); err == nil {
			out.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		at := y.Realm + "?" + q.Encode()
		if strings.Contains(y.Realm, "?") {
			at = y.Realm + "&" + q.Encode()
		}
		out, err = http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	}
	if err != nil {
		return nil, registry.ErrParameterInvalid.With("the request can't be passed on")
	}
	if a := r.Header.Get("Authorization"); a != "" {
		out.Header.Set("Authorization", a)
	}
	resp, err := y.HTTP.Do(out)
	if err != nil {
		return nil, registry.ErrUnavailable.With("the token server can't be asked").Because(errors.New("no answer")) // the error can have the query in it
	}
	defer resp.Body.Close()
	return y.answer(resp)
}

func (y *Relay) answer(resp *http.Response) ([]byte, error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return nil, registry.ErrUnauthorized
	case http.StatusForbidden:
		return nil, registry.ErrDenied
	case http.StatusBadRequest:
		return nil, registry.ErrParameterInvalid.With("the token server does not understand the request")
	case http.StatusTooManyRequests:
		return nil, registry.ErrTooManyRequests
	default:
		return nil, registry.ErrUnavailable.With("the token server answers with status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	if err != nil {
		return nil, registry.ErrUnavailable.With("the answer of the token server ends too early")
	}
	var token struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &token); err != nil || token.Token == "" && token.AccessToken == "" {
		return nil, registry.ErrUnavailable.With("the answer of the token server has no token in it")
	}
	return append(bytes.TrimSpace(body), '\n'), nil
}
