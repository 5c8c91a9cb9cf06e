package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/client"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// target is the registry that the flags name.
type target struct {
	config, cert, key, ca *string
	insecure              *bool
	timeout               *time.Duration
	metadata, blobstore   addresses
}

type addresses []string

func (a *addresses) String() string     { return strings.Join(*a, ",") }
func (a *addresses) Set(s string) error { *a = append(*a, s); return nil }

func targetFlags(flags *flag.FlagSet) *target {
	t := &target{
		config:   flags.String("config", "", "config `FILE` of the registry: says where its services are, and has certificates to use"),
		cert:     flags.String("tls-cert", "", "`FILE` with our certificate chain, PEM"),
		key:      flags.String("tls-key", "", "`FILE` with its private key, PEM"),
		ca:       flags.String("tls-cacert", "", "`FILE` with the authorities of the services' certificates, PEM"),
		insecure: flags.Bool("insecure", false, "allow plaintext to another machine"),
		timeout:  flags.Duration("timeout", time.Minute, "`TIME` that the command may take; 0: any"),
	}
	flags.Var(&t.metadata, "metadata", "`ADDRESS` of the metadata service, host:port; may be repeated")
	flags.Var(&t.blobstore, "blobstore", "`ADDRESS` of the blobstore, for health; may be repeated")
	return t
}

// dial returns a client of the registry. Flags count before the file.
func (t *target) dial(ctx context.Context, command string) (*client.Client, error) {
	o := client.Options{Metadata: t.metadata, Blobstore: t.blobstore, Insecure: *t.insecure}
	if *t.config != "" {
		cfg, _, err := config.Load(*t.config)
		if err != nil {
			return nil, daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("%s: %w", command, err)}
		}
		s := cfg.Services
		o.Insecure = o.Insecure || s.Insecure
		if len(t.metadata) == 0 {
			o.Metadata = addressOf(s.Metadata)
		}
		if len(t.blobstore) == 0 {
			o.Blobstore = addressOf(s.Blobstore)
		}
		if len(o.Metadata) == 0 {
			return t.dialStore(ctx, command, cfg.Storage.RootDirectory)
		}
		if s.TLS != nil {
			o.TLS = &client.TLS{Cert: s.TLS.Cert, Key: s.TLS.Key, CACert: s.TLS.CACert, Metadata: s.TLS.Peers.Metadata, Blobstore: s.TLS.Peers.Blobstore}
		}
	}
	if len(o.Metadata) == 0 {
		return nil, usage("%s: where is the registry? Give --config FILE or --metadata ADDRESS", command)
	}
	if *t.cert != "" || *t.key != "" || *t.ca != "" {
		if *t.cert == "" || *t.key == "" || *t.ca == "" {
			return nil, usage("%s: --tls-cert, --tls-key and --tls-cacert belong together", command)
		}
		if o.TLS == nil {
			o.TLS = new(client.TLS)
		}
		o.TLS.Cert, o.TLS.Key, o.TLS.CACert = *t.cert, *t.key, *t.ca
	}
	c, err := client.Dial(o)
	if err != nil {
		return nil, daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("%s: %w", command, err)}
	}
	return c, nil
}

// dialStore returns a client of the process that serves the store at root.
func (t *target) dialStore(ctx context.Context, command, root string) (*client.Client, error) {
	c, err := client.DialStore(ctx, root)
	if errors.Is(err, client.ErrNotServed) {
		err = fmt.Errorf("no process of this machine serves %s: start the registry with %s, or give --metadata ADDRESS", root, *t.config)
	}
	if err != nil {
		return nil, daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("%s: %w", command, err)}
	}
	return c, nil
}

// addressOf returns where a service is found: where it says, or on this machine
// if the program that links it serves it, too.
func addressOf(s config.Service) []string {
	if len(s.Address) > 0 || s.Listen == "" {
		return s.Address
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return []string{s.Listen}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return []string{net.JoinHostPort(host, port)}
}

// advice says what to look at when nobody answers.
func (t *target) advice() string {
	if *t.config != "" {
		return "is the registry running, and was it started with this file? gRPC is served where services.metadata.listen says"
	}
	return "is the registry running? Its config file turns gRPC on with services.metadata.listen; with services.tls it wants --tls-cert, --tls-key and --tls-cacert"
}
