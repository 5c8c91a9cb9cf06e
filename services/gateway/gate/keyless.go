package gate

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/trust"
)

// keylessOf returns the authorities that a config file names.
func keylessOf(t *config.Trust) (all []*trust.Keyless, err error) {
	if t == nil || !t.Enabled() {
		return nil, nil
	}
	for i, k := range t.Keyless {
		authority, err1 := os.ReadFile(k.Authority)
		log, err2 := os.ReadFile(k.Log)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("extensions.trust.keyless[%d]: %w", i, err)
		}
		var identities []trust.Identity
		for _, id := range k.Identities {
			identities = append(identities, trust.Identity{Issuer: id.Issuer, Subject: id.Subject})
		}
		made, err := trust.NewKeyless(string(authority), string(log), identities)
		if err != nil {
			return nil, fmt.Errorf("extensions.trust.keyless[%d]: %w", i, err)
		}
		all = append(all, made)
	}
	return all, nil
}
