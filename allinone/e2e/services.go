package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// addServices adds the programs of a system of many: first blobstores, then
// metadata services, a syncer and a scanner if there are any, then gateways, each with a config file of its own.
func (s *System) addServices(t testing.TB, etc string, opt Options) {
	t.Helper()
	count := map[string]int{"blobstore": 1, "metadata": 1, "syncer": 1, "scanner": 1, "gateway": 1}
	if opt.Topology == TwoGateways {
		count["gateway"] = 2
	}
	if opt.Topology == Replicas {
		count = map[string]int{"blobstore": 2, "metadata": 2, "syncer": 2, "scanner": 1, "gateway": 2}
	}
	called := []string{"blobstore", "metadata"}
	if opt.Mirror {
		called = append(called, "syncer")
	}
	if opt.Scan {
		called = append(called, "scanner")
	}
	address := map[string][]string{}
	for _, name := range called {
		for range count[name] {
			address[name] = append(address[name], loopback(freePort(t)))
		}
	}
	var certificates func(name string) map[string]any
	if opt.Topology == SplitTLS || opt.Topology == Replicas {
		certificates = issuer(t)
	}
	var gateways []string
	for _, name := range append(called[:len(called):len(called)], "gateway") {
		for i := range count[name] {
			services := map[string]any{}
			for _, to := range called {
				var told []string
				for _, a := range address[to] {
					told = append(told, opt.through(name, to, a))
				}
				services[to] = map[string]any{"listen": address[to][i%count[to]], "address": told}
			}
			if certificates != nil {
				services["tls"] = certificates(name)
			}
			config := writeConfig(t, etc, fmt.Sprintf("%s-%d.json", name, i), s.Dir, freePort(t), services, opt)
			s.add(t, opt, "berth-"+name, config)
			if name == "gateway" {
				gateways = append(gateways, loopback(httpPort(t, config)))
			}
			if s.Config == "" {
				s.Config = config // the first blobstore's: it knows where all data is
			}
		}
	}
	s.Addr = gateways[0]
	if len(gateways) > 1 {
		s.Addr = roundRobin(t, gateways...)
	}
}

// issuer returns a function that issues certificates of one authority, as
// services.tls of a config file.
func issuer(t testing.TB) func(name string) map[string]any {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "installation")
	n := 0
	return func(name string) map[string]any {
		n++
		f := ca.Save(t, filepath.Join(dir, fmt.Sprint(n)), certstest.Request{Names: []string{name}})
		return map[string]any{"cert": f.Cert, "key": f.Key, "cacert": f.CA}
	}
}

// of returns the processes of one program.
func (s *System) of(program string) []*Process {
	var list []*Process
	for _, p := range s.Processes {
		if strings.TrimPrefix(p.Name, "berth-") == program {
			list = append(list, p)
		}
	}
	return list
}
