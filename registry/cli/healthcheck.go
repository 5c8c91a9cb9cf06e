package cli

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

func (p Program) healthcheck(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	url := flags.String("url", "", "`URL` to ask; made from the config file if absent")
	timeout := flags.Duration("timeout", 5*time.Second, "`TIME` to wait for the answer")
	args, err := ParseArgs(flags, args, 1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if p.Serve.Health != nil && *url == "" {
		if len(args) == 0 {
			return daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s healthcheck: a config file is needed", p.Name)}
		}
		cfg, _, err := config.Load(args[0])
		if err == nil {
			err = cfg.ValidateFor(p.Serve.Program)
		}
		if err == nil {
			err = p.Serve.Health(ctx, cfg)
		}
		if err == nil {
			_, err = fmt.Fprintln(out, "ok")
		}
		return err
	}
	client := http.DefaultClient
	if *url == "" {
		cfg := config.WithoutFile()
		if len(args) > 0 {
			if cfg, _, err = config.Load(args[0]); err != nil {
				return err
			}
		}
		if *url, client, err = probe(cfg.HTTP); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, *url, nil)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", *url, resp.Status)
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}

// probe returns the URL that tells the health of a server configured by h, and a
// client that reaches it.
func probe(h config.HTTP) (url string, client *http.Client, err error) {
	network, address := h.Endpoint()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	host := "localhost"
	if network == "tcp" {
		name, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", nil, fmt.Errorf("http.address: %w", err)
		}
		address = net.JoinHostPort(reachable(name), port)
		host = address
	}
	scheme := "http"
	if h.Encrypted() {
		scheme = "https"
		if transport.TLSClientConfig, err = pinned(h.TLS.Cert); err != nil {
			return "", nil, err
		}
	}
	return scheme + "://" + host + "/readyz", &http.Client{Transport: transport}, nil
}

// pinned returns a configuration that trusts a server with the certificate in
// file and no other. The certificate's names do not count: it was made for those
// that clients know the server by, and we ask this machine.
func pinned(file string) (*tls.Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	block, b := pem.Decode(b)
	for block != nil && block.Type != "CERTIFICATE" {
		block, b = pem.Decode(b)
	}
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // in favour of the stricter check below
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || string(s.PeerCertificates[0].Raw) != string(block.Bytes) {
				return errors.New("the server has another certificate than " + file)
			}
			return nil
		},
	}, nil
}

// reachable returns an address to dial for one that is listened on.
func reachable(host string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "localhost"
	}
	return host
}
