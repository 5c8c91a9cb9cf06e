package credentials

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/berth-registry/berth/services/syncer/upstream"
)

// DockerFile returns where docker keeps credentials: $DOCKER_CONFIG, or else the
// home directory. "" if there is neither.
func DockerFile() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// dockerConfig is what we read of docker's config.json.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"` // base64 of user:password
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"` // by registry
	CredsStore  string            `json:"credsStore"`  // of all others
}

// maxConfig bounds docker's config.json and what a helper writes.
const maxConfig = 1 << 20

// Docker returns what docker would log in to a registry with: by the program in
// credHelpers for it, or else credsStore, or else auths. The file is read, and the
// program run, at each call; no file is no credentials.
func Docker(file, host string) Source {
	return func(ctx context.Context) (*upstream.Credentials, error) {
		cfg, err := readDocker(file)
		if err != nil || cfg == nil {
			return nil, err
		}
		for _, name := range dockerNames(host) {
			if helper := cfg.CredHelpers[name]; helper != "" {
				return runHelper(ctx, helper, name)
			}
		}
		if cfg.CredsStore != "" {
			for _, name := range dockerNames(host) {
				c, err := runHelper(ctx, cfg.CredsStore, name)
				if err != nil || c != nil {
					return c, err
				}
			}
		}
		return cfg.find(host)
	}
}

func readDocker(file string) (*dockerConfig, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	info, err := os.Stat(file)
	// A home directory that a unit file hides has none either.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("reading docker's credentials: %w", err)
	}
	if info.Size() > maxConfig {
		return nil, errors.New("docker's config.json is too large")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading docker's credentials: %w", err)
	}
	cfg := new(dockerConfig)
	if err := json.Unmarshal(b, cfg); err != nil {
		return nil, errors.New("docker's config.json is not what docker writes")
	}
	return cfg, nil
}

// dockerNames are the names that docker knows a registry by.
func dockerNames(host string) []string {
	if upstream.Canonical(host) == "docker.io" {
		return []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}
	}
	return []string{host, "https://" + host}
}

// find returns what auths has for a host.
func (cfg *dockerConfig) find(host string) (*upstream.Credentials, error) {
	for name, a := range cfg.Auths {
		if !sameRegistry(name, host) {
			continue
		}
		user, password := a.Username, a.Password
		if a.Auth != "" {
			b, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, fmt.Errorf("docker's config.json: auth of %s is not base64", host)
			}
			user, password, _ = strings.Cut(strings.TrimRight(string(b), "\x00"), ":")
		}
		if a.IdentityToken != "" {
			user, password = upstream.IdentityToken, a.IdentityToken
		}
		if user != "" {
			return &upstream.Credentials{Username: user, Password: password}, nil
		}
	}
	return nil, nil //nolint:nilnil // there are none for this host
}

// sameRegistry reports whether a key of auths, a host or a URL, means host.
func sameRegistry(key, host string) bool {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	key, _, _ = strings.Cut(key, "/")
	return upstream.Canonical(key) == upstream.Canonical(host)
}

const (
	// helperTime is how long a helper may run.
	helperTime = 20 * time.Second
	// notFound is what helpers say when they have nothing (docker-credential-helpers).
	notFound = "credentials not found in native keychain"
)

// helperName is what the rest of a helper's file name may be.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// runHelper asks the program docker-credential-NAME for the user of a registry
// (docker-credential-helpers, "get"). What it writes to stderr is not shown: it may
// be a secret.
func runHelper(ctx context.Context, name, server string) (*upstream.Credentials, error) {
	if !helperName.MatchString(name) {
		return nil, errors.New("docker's config.json names a credential helper that is no name of a program")
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	program := "docker-credential-" + name
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(server)
	out := &bounded{left: maxConfig}
	cmd.Stdout = out
	err := cmd.Run()
	if strings.Contains(strings.ToLower(out.String()), notFound) {
		return nil, nil //nolint:nilnil // it has none for this host
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("the program %s is not in the PATH", program)
		}
		return nil, fmt.Errorf("%s has no credentials for %s: %w", program, server, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.Secret == "" {
		return nil, fmt.Errorf("%s answers other than credential helpers do", program)
	}
	return &upstream.Credentials{Username: answer.Username, Password: answer.Secret}, nil
}

// bounded keeps what is written up to a limit, and fails beyond it.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, errors.New("too long")
	}
	b.left -= len(p)
	return b.Buffer.Write(p)
}
