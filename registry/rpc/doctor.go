package rpc

import (
	"context"
	"log/slog"
	"net"
	"strings"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/doctor"
)

// Examine returns checks of the services that a config file has addresses of:
// that their names lead somewhere, that they answer, and that they are well.
func Examine(s config.Services) []doctor.Check {
	var all []doctor.Check
	for _, service := range []struct {
		role Role
		s    config.Service
	}{{Blobstore, s.Blobstore}, {Metadata, s.Metadata}} {
		for _, address := range service.s.Address {
			all = append(all, func(ctx context.Context, r *doctor.Report) {
				examine(ctx, r, s, service.role, address)
			})
		}
	}
	return all
}

func examine(ctx context.Context, r *doctor.Report, s config.Services, role Role, address string) {
	check := "services." + role.String() + ".address " + address
	security, err := Secure(s, slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fail(check, "mend services.tls", "%v", err)
		return
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(address, "dns:///"))
	if err != nil {
		r.OK(check, "not looked at: only host:port and dns:///host:port are")
		return
	}
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		r.Fail(check, "mend the address, or name resolution", "%v", err)
		return
	}
	for _, ip := range found {
		at := net.JoinHostPort(ip, port)
		if err := CheckHealth(ctx, at, DialOptions{Security: security, Server: role}); err != nil {
			r.Fail(check, "see whether it runs, and whether services.tls of both ends agree", "%s: %v", at, err)
		} else {
			r.OK(check, "%s is well", at)
		}
	}
}
