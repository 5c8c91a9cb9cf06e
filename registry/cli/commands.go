package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// Server is how a program serves.
type Server struct {
	// Program says which sections of the config file it needs.
	Program config.Program
	// NeedsFile refuses to serve without a config file.
	NeedsFile bool
	// Units builds what runs in process p. It holds nothing open when it returns
	// an error.
	Units func(ctx context.Context, cfg *config.Config, p daemon.Process) ([]daemon.Unit, error)
	// Doctor returns what only this program can look at, for doctor. nil: nothing.
	Doctor func(cfg *config.Config) []doctor.Check
	// HTTP reports whether the program listens on http.address.
	HTTP bool
	// Health asks the running program whether it serves. nil if its /readyz does.
	Health func(ctx context.Context, cfg *config.Config) error
}

// common are the commands that every program has.
func (p Program) common() []Command {
	return []Command{
		{
			Name: "serve", Args: p.Serve.fileArg(), Summary: "run until SIGTERM",
			Example: p.Name + " serve /etc/berth/config.json",
			Run:     p.serve,
		},
		{
			Name: "verify", Args: "FILE", Summary: "check a config file; exit code 0 if it is valid. Files that it names are not looked at",
			Example: p.Name + " verify config.json",
			Run:     p.verify,
		},
		{
			Name: "doctor", Args: "FILE", Summary: "look at certificates, clock, storage, databases and services of a config file: exit code 0 if nothing fails, 1 otherwise, 2 for a wrong command line",
			Example: p.Name + " doctor config.json\n" + p.Name + " doctor --json config.json",
			Run:     p.doctor,
		},
		{
			Name: "schema", Summary: "print the JSON Schema of the config file",
			Run: func(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
				if _, err := ParseArgs(flags, args, 0); err != nil {
					return err
				}
				_, err := out.Write(config.Schema())
				return err
			},
		},
		{
			Name: "version", Summary: "print the version",
			Run: func(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
				if _, err := ParseArgs(flags, args, 0); err != nil {
					return err
				}
				_, err := fmt.Fprintf(out, "%s %s, distribution-spec %s, %s\n", p.Name, p.Version, config.SpecVersion, goVersion())
				return err
			},
		},
		{
			Name: "healthcheck", Args: p.Serve.fileArg(), Summary: "ask a running server whether it is ready; for containers without a shell",
			Example: p.Name + " healthcheck " + p.Serve.healthArgs(),
			Run:     p.healthcheck,
		},
	}
}

func (s Server) fileArg() string {
	if s.NeedsFile {
		return "FILE"
	}
	return "[FILE]"
}

func (s Server) healthArgs() string {
	if s.HTTP {
		return "--url http://127.0.0.1:5000/readyz"
	}
	return "config.json"
}

func acceptFlag(flags *flag.FlagSet) *list {
	accept := new(list)
	flags.Var(accept, "accept-unbuilt", "`KEY` of the file whose feature is not built yet and that may be ignored; may be repeated")
	return accept
}

// load reads the config file for the program, and logs its warnings.
func (p Program) load(file string, accept []string) (*config.Config, []config.Warning, error) {
	if file == "" && p.Serve.NeedsFile {
		return nil, nil, daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s: a config file is needed", p.Name)}
	}
	return config.LoadFor(file, p.Serve.Program, accept)
}

func (p Program) serve(ctx context.Context, flags *flag.FlagSet, args []string, _ io.Writer) error {
	accept := acceptFlag(flags)
	drain := flags.Duration("drain", daemon.DefaultDrain, "`TIME` that requests in progress get to finish when told to stop")
	delay := new(time.Duration)
	if p.Serve.HTTP {
		delay = flags.Duration("drain-delay", 0, "`TIME` that new requests are taken before, while /readyz answers 503; for servers behind a load balancer")
	}
	args, err := ParseArgs(flags, args, 1)
	if err != nil {
		return err
	}
	cfg, warnings, err := p.load(first(args), *accept)
	if err != nil {
		return err
	}
	logs, err := daemon.NewLogger(daemon.LogOptions{Level: cfg.Log.Level, Output: cfg.Log.Output})
	if err != nil {
		return err
	}
	defer logs.Close()
	log := logs.Logger
	for _, w := range warnings {
		log.Warn(w.String())
	}
	daemon.SetMemoryLimit()

	process := daemon.Process{Program: p.Name, Version: p.Version, Log: log, Metrics: metrics.New(), Ready: new(daemon.Readiness)}
	p.describe(process.Metrics)
	reload := p.reload(&process, cfg, logs, first(args), *accept)
	var traces daemon.Unit
	if process.Traces, traces, err = p.traces(ctx, process); err != nil {
		return err
	}
	units, err := p.Serve.Units(ctx, cfg, process)
	if err != nil {
		return errors.Join(err, daemon.Abandon([]daemon.Unit{traces}))
	}
	units = append([]daemon.Unit{traces}, units...) // ends last
	units = append(units, reload)
	p.announce(cfg, log)
	return daemon.Run(ctx, log, daemon.Options{Ready: process.Ready, Delay: *delay, Drain: *drain}, units...)
}

// traces opens what exports traces, if the environment asks for it.
func (p Program) traces(ctx context.Context, process daemon.Process) (*tracing.Tracer, daemon.Unit, error) {
	if p.Traces != nil {
		return p.Traces(ctx, process, os.Getenv)
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		process.Log.Warn("no traces are exported: " + p.Name + " is too small to hold an exporter; berth and the split services have one")
	}
	return nil, daemon.Unit{Name: "traces"}, nil
}

// describe adds what is known of the process itself.
func (p Program) describe(m *metrics.Set) {
	m.Runtime()
	version := runtime.Version()
	m.Gauge("berth_build_info", "The program that runs; always 1.", "program", p.Name, "version", p.Version, "goversion", version).Set(1)
	// zot's own, for what was built around it. Its value is 0 there, too.
	m.Gauge("zot_info", "The program that runs; always 0.", "commit", p.Version, "binaryType", p.Name, "goVersion", version, "version", p.Version)
}

// announce says what someone who starts a registry wants to know first.
func (p Program) announce(cfg *config.Config, log *slog.Logger) {
	log = log.With("version", p.Version)
	if p.Serve.Program != config.OnlyGateway {
		log = log.With("data", cfg.Storage.RootDirectory)
	}
	if !p.Serve.HTTP {
		log.Info("starting " + p.Name)
		return
	}
	authenticated := !cfg.HTTP.Open()
	_, address := cfg.HTTP.Endpoint()
	log.Info("starting "+p.Name, "address", address, "authentication", authenticated)
	if !authenticated && !cfg.HTTP.Local() {
		log.Warn("anyone who reaches this address may read, push and delete: no authentication is configured", "address", cfg.HTTP.Address)
	}
}

func (p Program) verify(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	accept := acceptFlag(flags)
	args, err := ParseArgs(flags, args, 1)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s verify: a config file is needed", p.Name)}
	}
	_, warnings, err := p.load(args[0], *accept)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	_, err = fmt.Fprintf(out, "%s: config file is valid\n", args[0])
	return err
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
