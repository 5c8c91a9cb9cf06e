package jwt

import (
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// OpenSecret opens a secret that holds keys elsewhere: what it returns reads it.
type OpenSecret func(c *config.AWSSecretsManager, rules outbound.Rules, e auth.Env) (ReadSecret, error)

// Bearer returns what opens the tokens of a token server, for [auth.Parts]. aws may be
// nil: the program has it not in it.
func Bearer(aws OpenSecret) func(*config.Config, auth.Env) (auth.Method, error) {
	return func(c *config.Config, e auth.Env) (auth.Method, error) {
		b := c.HTTP.Auth.Bearer
		m := b.AWSSecretsManager
		if m == nil {
			return OpenBearer(b.Cert, b.Service, e)
		}
		if aws == nil {
			return nil, errors.New("awsSecretsManager: this program has it not; berth and berth-gateway have")
		}
		rules, err := c.Outbound.Rules()
		if err != nil {
			return nil, fmt.Errorf("outbound: %w", err)
		}
		read, err := aws(m, rules, e)
		if err != nil {
			return nil, fmt.Errorf("awsSecretsManager: %w", err)
		}
		return OpenBearerSecret(read, m.RefreshInterval, b.Service, e), nil
	}
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
