package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// userOf returns where the user of a host comes from: the rule itself, or the file of
// all hosts, the rule's helper, what docker has stored, in this order.
func userOf(c *config.SyncRegistry, file string, helpers map[string]credentials.Helper, rawURL string, rules outbound.Rules, p daemon.Process) (credentials.Source, error) {
	if own := c.Credentials; own != nil {
		return func(context.Context) (*upstream.Credentials, error) {
			password, err := own.ReadPassword()
			if err != nil {
				return nil, err
			}
			return &upstream.Credentials{Username: own.Username, Password: string(password)}, nil
		}, nil
	}
	host := upstream.HostOf(rawURL)
	var fromFile, helped credentials.Source
	if file != "" {
		fromFile = fileOf(file, host)
	}
	if name := c.CredentialHelper; name != "" {
		open := helpers[name]
		if name == "oauth2" {
			open = credentials.OAuth2
		}
		if open == nil {
			return nil, fmt.Errorf("credentialHelper: this program has no %s, only %s", name, strings.Join(append(slices.Sorted(maps.Keys(helpers)), "oauth2"), ", "))
		}
		var err error
		if helped, err = open(credentials.Options{Registry: c, Host: host, Client: helperClient(rules, p)}); err != nil {
			return nil, err
		}
	}
	return credentials.First(fromFile, helped, credentials.Docker(credentials.DockerFile(), host)), nil
}

// fileOf reads the user of a host from the file of all hosts, by exactly host[:port].
func fileOf(file, host string) credentials.Source {
	return func(context.Context) (*upstream.Credentials, error) {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the credentials of upstreams: %w", err)
		}
		var all map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
		}
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, errors.New("the file of credentials is no JSON object of hosts")
		}
		for name, u := range all {
			if upstream.Canonical(name) == host {
				return &upstream.Credentials{Username: u.Username, Password: u.Password}, nil
			}
		}
		return nil, nil //nolint:nilnil // there are none for this host
	}
}
