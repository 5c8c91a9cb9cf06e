package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Rules say what the claims of a token mean. They may be used by many goroutines.
type Rules interface {
	// Map returns the user's name, "" for that of the token, and groups. An error
	// refuses the token. Values are as [encoding/json] has them.
	Map(claims map[string]any) (user string, groups []string, err error)
}

// CompileRules compiles the claimMapping of an issuer.
type CompileRules func(config.ClaimRules) (Rules, error)

// workload is the method "oidc": ID tokens as they are, of issuers that the
// configuration names. Such are those of Kubernetes' service accounts, of CI
// systems, and of SPIFFE.
type workload struct {
	trusted []*trusted
	log     *slog.Logger
	now     func() time.Time
}

// trusted is an issuer and what its tokens are good for.
type trusted struct {
	config.BearerOIDC
	issuer *issuer
	rules  Rules // nil: none
	known  verified[registry.Actor]
}

// OpenOIDC returns the method. compile may be nil if the program can't compile
// rules: a configuration that has some is refused then.
func OpenOIDC(list []config.BearerOIDC, rules outbound.Rules, compile CompileRules, e auth.Env) (auth.Method, error) {
	w := &workload{log: e.Log.With("method", "oidc"), now: time.Now}
	for n, c := range list {
		t := &trusted{BearerOIDC: c}
		var err error
		if m := c.ClaimMapping; m != nil && (m.Username != "" || m.Groups != "" || len(m.Validations) > 0) {
			if compile == nil {
				return nil, fmt.Errorf("[%d].claimMapping: this program has no CEL; berth and berth-gateway have", n)
			}
			if t.rules, err = compile(*m); err != nil {
				return nil, fmt.Errorf("[%d].claimMapping: %w", n, err)
			}
		}
		if t.issuer, err = newIssuer(c, rules, outbound.Options{Log: w.log, Metrics: e.Metrics}); err != nil {
			return nil, fmt.Errorf("[%d]: %w", n, err)
		}
		w.trusted = append(w.trusted, t)
	}
	return w, nil
}

// Name implements [auth.Method].
func (w *workload) Name() string { return "oidc" }

// Close implements [io.Closer].
func (w *workload) Close() error {
	for _, t := range w.trusted {
		t.issuer.client.CloseIdle()
	}
	return nil
}

// Authenticate implements [auth.Method]. The token may be the password of any user,
// as clients have it that know nothing else: docker login, pull secrets of
// Kubernetes.
func (w *workload) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	if q.Basic != nil {
		return w.verify(ctx, q.Basic.Password)
	}
	return w.verify(ctx, q.Bearer)
}

// Known implements [auth.Knower]: nobody guesses a signature, and to look at one costs
// little. So a token that is good never has to wait because others guess at the user name
// that it comes with, which says nothing.
func (w *workload) Known(q *auth.Request) bool {
	_, verdict, err := w.verify(q.HTTP.Context(), q.Basic.Password)
	return err == nil && verdict == auth.Accepted
}

func (w *workload) verify(ctx context.Context, token string) (registry.Actor, auth.Verdict, error) {
	p, err := split(token)
	if err != nil {
		return registry.Actor{}, auth.Unknown, nil
	}
	// Which keys to look at is all that is believed of it so far.
	unverified, err := decodeClaims(p.payload)
	if err != nil {
		return registry.Actor{}, auth.Unknown, nil
	}
	var unable error
	for _, t := range w.trusted {
		if !t.SkipIssuerVerification && unverified.text("iss") != t.Issuer {
			continue
		}
		a, err := t.actor(ctx, p, token, w.now())
		switch {
		case err == nil:
			return a, auth.Accepted, nil
		case errors.Is(err, registry.ErrUnavailable):
			unable = err
		default:
			w.log.Debug("a token is refused", "issuer", t.Issuer, "reason", err.Error())
		}
	}
	return registry.Actor{}, auth.Unknown, unable
}

// actor verifies a token.
func (t *trusted) actor(ctx context.Context, p *parsed, token string, now time.Time) (registry.Actor, error) {
	keys, generation, err := t.issuer.current(ctx, func(keys []Key) bool {
		for _, k := range keys {
			if p.kid == "" || k.ID == "" || k.ID == p.kid {
				return true
			}
		}
		return false
	})
	if err != nil {
		return registry.Actor{}, registry.ErrUnavailable.With("the keys of the token's issuer can't be had").Because(err)
	}
	if a, ok := t.known.get(token, generation, now); ok {
		return a, nil
	}
	c, err := p.verify(keys, t.Audiences, now)
	if err != nil {
		return registry.Actor{}, err
	}
	if !t.SkipIssuerVerification && c.text("iss") != t.Issuer {
		return registry.Actor{}, errors.New("the token is of another issuer")
	}
	a, err := t.identify(c)
	if err != nil {
		return registry.Actor{}, err
	}
	until, _ := c.time("exp")
	t.known.put(token, generation, a, until.Add(leeway))
	return a, nil
}

// identify returns whom the claims speak of. Without rules that is issuer and
// subject, because only both together are one principal for ever.
func (t *trusted) identify(c claims) (registry.Actor, error) {
	subject := c.text("sub")
	if subject == "" {
		return registry.Actor{}, errors.New("the token has no subject")
	}
	// An address that the issuer has not verified is what its user says.
	if verified, there := c["email_verified"]; there && verified != true {
		delete(c, "email")
	}
	a := registry.Actor{ID: c.text("iss") + "/" + subject, Claims: make(map[string]string), JSONClaims: make(map[string]string)}
	for name, value := range c {
		if s, ok := value.(string); ok {
			a.Claims[name] = s
			continue
		}
		if text, err := json.Marshal(value); err == nil {
			a.JSONClaims[name] = string(text)
		}
	}
	if t.rules == nil {
		return a, nil
	}
	user, groups, err := t.rules.Map(c)
	if err != nil {
		return registry.Actor{}, err
	}
	if t.ClaimMapping.Username != "" {
		a.ID = user
	}
	if a.ID == "" || strings.ContainsFunc(a.ID, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return registry.Actor{}, errors.New("the rules give the token no name, or not a good one")
	}
	a.Groups = groups
	return a, nil
}
