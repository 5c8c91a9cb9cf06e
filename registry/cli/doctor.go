package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
)

// exitUnwell is the exit code of doctor when something fails, besides 0 and
// [ExitUsage].
const exitUnwell = 1

func (p Program) doctor(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	accept := acceptFlag(flags)
	asJSON := flags.Bool("json", false, "print each finding as a line of JSON")
	args, err := ParseArgs(flags, args, 1)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return daemon.Exit{Code: ExitUsage, Err: errors.New("doctor: a config file is needed")}
	}
	r := doctor.NewReport(out, *asJSON)
	cfg, warnings, err := p.load(args[0], *accept)
	if err != nil {
		r.Fail("config file", "", "%v", err)
	} else {
		for _, w := range warnings {
			r.Warn("config file", "", "%s", w)
		}
		if len(warnings) == 0 {
			r.OK("config file", "%s is valid", args[0])
		}
		doctor.Run(ctx, r, p.checks(cfg)...)
	}
	failed, err := r.Failed()
	switch {
	case err != nil:
		return err
	case failed > 0:
		return daemon.Exit{Code: exitUnwell, Err: fmt.Errorf("doctor: %d failures", failed)}
	}
	return nil
}

// checks returns what doctor looks at for a program with that config file.
func (p Program) checks(cfg *config.Config) []doctor.Check {
	all := []doctor.Check{doctor.Clock(doctor.Synchronized), doctor.Files(doctor.FileLimit)}
	which := p.Serve.Program
	if p.Serve.HTTP && cfg.HTTP.Encrypted() {
		host := ""
		if u, err := url.Parse(cfg.HTTP.ExternalURL); err == nil {
			host = u.Hostname()
		}
		all = append(all, doctor.Certificate("http.tls", cfg.HTTP.TLS.Cert, cfg.HTTP.TLS.Key, "", host))
	}
	if t := cfg.Services.TLS; t != nil {
		all = append(all, doctor.Certificate("services.tls", t.Cert, t.Key, t.CACert, ""))
	}
	if root := cfg.Storage.RootDirectory; root != "" && (cfg.Storage.Pool.Local() || cfg.Storage.Metadata.Driver == config.SQLite) && which != config.OnlyGateway {
		all = append(all, doctor.Storage("storage.rootDirectory", root))
	}
	if which == config.AllInOne || which == config.OnlyBlobstore {
		for name, sub := range cfg.Storage.SubPaths {
			if sub.Local() {
				all = append(all, doctor.Storage("storage.subPaths."+name+".rootDirectory", sub.RootDirectory))
			}
		}
	}
	if p.Serve.Doctor != nil {
		all = append(all, p.Serve.Doctor(cfg)...)
	}
	return all
}
