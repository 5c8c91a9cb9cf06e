package config

import (
	"strings"
	"testing"
)

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		address, network, want string
		local                  bool
	}{
		{"127.0.0.1", "tcp", "127.0.0.1:5000", true},
		{"localhost", "tcp", "localhost:5000", true},
		{"0.0.0.0", "tcp", "0.0.0.0:5000", false},
		{"", "tcp", ":5000", false},
		{"registry.example", "tcp", "registry.example:5000", false},
		{"::1", "tcp", "[::1]:5000", true},
		{"[::1]", "tcp", "[::1]:5000", true},
		{"::", "tcp", "[::]:5000", false},
		{"[fe80::1%eth0]", "tcp", "[fe80::1%eth0]:5000", false},
		{"unix:/run/berth.sock", "unix", "/run/berth.sock", true},
		{"unix:///run/berth.sock", "unix", "/run/berth.sock", true},
		{"unix:berth.sock", "unix", "berth.sock", true},
	} {
		h := HTTP{Address: test.address, Port: "5000"}
		network, address := h.Endpoint()
		if network != test.network || address != test.want || h.Local() != test.local {
			t.Errorf("%q: got %s %s, local %v", test.address, network, address, h.Local())
		}
		c := Defaults()
		c.HTTP.Address = test.address
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", test.address, err)
		}
	}
}

func TestAddressRefused(t *testing.T) {
	for _, address := range []string{"127.0.0.1:5000", "[::1]:5000", "[::1", "::1]", "[127.0.0.1]", "host:5000", "/run/berth.sock", "http://x", "a b", "unix:", "unix://", "unix:/" + strings.Repeat("x", 107)} {
		c := Defaults()
		c.HTTP.Address = address
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "http.address") {
			t.Errorf("%q: %v", address, err)
		}
	}
}
