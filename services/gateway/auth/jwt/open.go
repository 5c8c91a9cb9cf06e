package jwt

import (
	"fmt"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Bearer opens the tokens of a token server, for [auth.Parts].
func Bearer(c *config.Bearer, e auth.Env) (auth.Method, error) {
	return OpenBearer(c.Cert, c.Service, e)
}

// OIDC returns what opens the tokens of issuers, for [auth.Parts]. compile may be nil.
func OIDC(compile CompileRules) func(*config.Config, auth.Env) (auth.Method, error) {
	return func(c *config.Config, e auth.Env) (auth.Method, error) {
		rules, err := c.Outbound.Rules()
		if err != nil {
			return nil, fmt.Errorf("outbound: %w", err)
		}
		return OpenOIDC(c.HTTP.Auth.Bearer.OIDC, rules, compile, e)
	}
}
