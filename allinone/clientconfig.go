package allinone

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
)

// clientForms are what client-config writes, by client.
var clientForms = map[string]func(mirror *url.URL, upstreams []string) string{
	"containerd": containerdHosts, "k3s": k3sRegistries, "docker": dockerDaemon, "podman": podmanRegistries,
}

// clientConfig prints what a client has to be told so that it pulls from here what
// the rules mirror.
func clientConfig(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	args, err := cli.ParseArgs(flags, args, 3)
	if err != nil {
		return err
	}
	if len(args) < 2 {
		return wrongUsage("%s: too few arguments; see --help", flags.Name())
	}
	form := clientForms[args[1]]
	if form == nil {
		return wrongUsage("%q: must be containerd, k3s, docker or podman", args[1])
	}
	cfg, _, err := config.Load(args[0])
	if err != nil {
		return storeExit(flags.Name(), err)
	}
	mirror, err := mirrorURL(cfg, args[2:])
	if err != nil {
		return err
	}
	upstreams := mirroredHosts(cfg)
	if len(upstreams) == 0 {
		return wrongUsage("extensions.sync.registries: no rule has onDemand")
	}
	_, err = io.WriteString(out, form(mirror, upstreams))
	return err
}

// mirrorURL returns where clients reach this registry: what args say, or else the file.
func mirrorURL(cfg *config.Config, args []string) (*url.URL, error) {
	text := cfg.HTTP.ExternalURL
	if len(args) > 0 {
		text = args[0]
	}
	if text == "" {
		host := cfg.HTTP.Address
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return nil, wrongUsage("clients can't know this registry by the file: give URL, or set http.externalUrl")
		}
		scheme := "http"
		if cfg.HTTP.Encrypted() {
			scheme = "https"
		}
		text = scheme + "://" + net.JoinHostPort(host, cfg.HTTP.Port)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, wrongUsage("%q: must be http://HOST[:PORT] or https://HOST[:PORT]", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// mirroredHosts returns the registries that rules fetch from for clients, as those
// call them.
func mirroredHosts(cfg *config.Config) []string {
	if cfg.Extensions == nil || cfg.Extensions.Sync == nil {
		return nil
	}
	var all []string
	for _, r := range cfg.Extensions.Sync.Registries {
		if !r.OnDemand || len(r.URLs) == 0 {
			continue
		}
		u, err := url.Parse(r.URLs[0])
		if err != nil || u.Host == "" {
			continue
		}
		host := strings.ToLower(u.Host)
		if host == "registry-1.docker.io" || host == "index.docker.io" {
			host = dockerHub
		}
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	slices.Sort(all)
	return all
}

const dockerHub = "docker.io"

// containerdHosts are the files of containerd's directory of hosts (hosts.toml).
func containerdHosts(mirror *url.URL, upstreams []string) string {
	var b strings.Builder
	for i, host := range upstreams {
		server := "https://" + host
		if host == dockerHub {
			server = "https://registry-1.docker.io"
		}
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# /etc/containerd/certs.d/%s/hosts.toml\nserver = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", host, server, mirror)
	}
	return b.String()
}

// k3sRegistries is k3s's registries.yaml.
func k3sRegistries(mirror *url.URL, upstreams []string) string {
	var b strings.Builder
	b.WriteString("# /etc/rancher/k3s/registries.yaml\nmirrors:\n")
	for _, host := range upstreams {
		fmt.Fprintf(&b, "  %q:\n    endpoint:\n      - %q\n", host, mirror)
	}
	return b.String()
}

// dockerDaemon is docker's daemon.json, which has mirrors of Docker Hub only.
func dockerDaemon(mirror *url.URL, upstreams []string) string {
	form := struct {
		Mirrors  []string `json:"registry-mirrors"`
		Insecure []string `json:"insecure-registries,omitempty"`
	}{Mirrors: []string{}}
	if slices.Contains(upstreams, dockerHub) {
		form.Mirrors = []string{mirror.String()}
	}
	if mirror.Scheme == "http" {
		form.Insecure = []string{mirror.Host}
	}
	b, _ := json.MarshalIndent(form, "", "  ") // strings can always be written
	return string(b) + "\n"
}

// podmanRegistries is a registries.conf for podman, buildah, skopeo and CRI-O. The
// host of the upstream is the first part of names here.
func podmanRegistries(mirror *url.URL, upstreams []string) string {
	var b strings.Builder
	b.WriteString("# /etc/containers/registries.conf.d/mirror.conf\n")
	for _, host := range upstreams {
		name, _, _ := strings.Cut(host, ":")
		fmt.Fprintf(&b, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", host, mirror.Host+"/"+name)
		if mirror.Scheme == "http" {
			b.WriteString("insecure = true\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
