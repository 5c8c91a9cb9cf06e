package config

import "github.com/berth-registry/berth/registry/outbound"

// Outbound says which hosts requests to others may reach, see package outbound.
type Outbound struct {
	Allow  []string `json:"allow"`
	Strict bool     `json:"strict"`
}

// Rules returns the rules. Of a Config that was checked they are valid.
func (o Outbound) Rules() (outbound.Rules, error) { return outbound.ParseRules(o.Allow, o.Strict) }

func outboundKeys() []Key {
	return []Key{
		{Path: "outbound", Type: Object, Status: Built, Doc: "Where requests to others (upstream registries, identity providers) may go. Public addresses always; private ones if this file names the host or another of its domain; this machine if it names localhost or the address, with the port; link-local addresses and the metadata services of clouds never."},
		{Path: "outbound.allow", Type: Strings, Doc: "What else may be reached: networks such as 10.0.0.0/8, addresses, hosts, host:port or *.domain. Link-local addresses and metadata services only by their network or address."},
		{Path: "outbound.strict", Type: Bool, Default: "false", Doc: "Hosts that this file names have no privilege: what is not public must stand in outbound.allow."},
	}
}

func (ch *checker) outbound(o *Outbound) {
	for i, entry := range o.Allow {
		if _, err := outbound.ParseRules([]string{entry}, false); err != nil {
			ch.fail(place{"outbound", "allow", i}, "%v", err)
		}
	}
}
