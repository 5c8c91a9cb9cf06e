package ctl

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/daemon"
)

// login is the command that logs in by device code (RFC 8628).
func login(program string) cli.Command {
	return cli.Command{
		Name: "login", Args: "URL", Summary: "log in at a registry in the browser, and keep an API key where docker, podman, helm and others look for it",
		Example: program + " login https://registry.example\n" + program + " login --print https://registry.example",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			var scopes texts
			flags.Var(&scopes, "scope", "`PATTERN[:ACTION,...]` of repositories and pull, push, delete that the key is good for; may be repeated")
			expires := flags.Duration("expires", 30*24*time.Hour, "`TIME` after which the key ends, a minute to a year")
			show := flags.Bool("print", false, "print user name and key as JSON, and keep them nowhere")
			args, err := cli.ParseArgs(flags, args, 1)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return usage("login: needs URL")
			}
			base, err := registryURL(args[0])
			if err != nil {
				return err
			}
			host, err := os.Hostname()
			if err != nil {
				host = "unknown host"
			}
			form := url.Values{"client_id": {program + " login on " + host}, "scope": scopes, "expires_in": {strconv.Itoa(int(expires.Seconds()))}}
			key, err := deviceLogin(ctx, base, form, os.Stderr)
			if err != nil {
				return daemon.Exit{Code: exitRefused, Err: fmt.Errorf("login: %w", err)}
			}
			if *show {
				return json.NewEncoder(out).Encode(key)
			}
			where, err := keepLogin(ctx, base.Host, key)
			if err != nil {
				return daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("login: %w", err)}
			}
			fmt.Fprintf(out, "logged in at %s as %s until %s; kept in %s\n", base.Host, key.User, time.Now().Add(time.Duration(key.Expires)*time.Second).Format(time.RFC3339), where)
			return nil
		},
	}
}

func registryURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
		return nil, usage("login: %q is not the URL of a registry", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// deviceKey is what a login ends with.
type deviceKey struct {
	User    string `json:"username"`
	Key     string `json:"access_token"`
	Expires int64  `json:"expires_in"` // seconds
	ID      string `json:"id"`
}

const maxLoginAnswer = 64 << 10

// deviceLogin tells the user where to go, and waits.
func deviceLogin(ctx context.Context, base *url.URL, form url.Values, tell io.Writer) (deviceKey, error) {
	var begun struct {
		Device   string `json:"device_code"`
		Code     string `json:"user_code"`
		Page     string `json:"verification_uri"`
		Complete string `json:"verification_uri_complete"`
		Expires  int64  `json:"expires_in"`
		Interval int64  `json:"interval"`
	}
	status, err := post(ctx, base.JoinPath("/zot/auth/device").String(), form, &begun)
	if err != nil {
		return deviceKey{}, err
	}
	if status != http.StatusOK || begun.Device == "" {
		return deviceKey{}, fmt.Errorf("%s knows no logins in the browser (status %d): use its user names and passwords, or an API key", base.Host, status)
	}
	fmt.Fprintf(tell, "Open %s\nand check that it shows the code %s\n", begun.Complete, begun.Code)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(begun.Expires)*time.Second)
	defer cancel()
	wait := time.Duration(max(begun.Interval, 1)) * time.Second
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return deviceKey{}, errors.New("nobody has agreed in time")
		case <-t.C:
		}
		var got struct {
			deviceKey
			Error string `json:"error"`
		}
		status, err := post(ctx, base.JoinPath("/zot/auth/device/token").String(), url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {begun.Device},
		}, &got)
		switch {
		case err != nil:
			return deviceKey{}, err
		case status == http.StatusOK && got.Key != "":
			return got.deviceKey, nil
		case got.Error == "slow_down", status == http.StatusTooManyRequests:
			wait += 5 * time.Second
		case got.Error == "authorization_pending", status >= 500:
		default:
			return deviceKey{}, fmt.Errorf("the registry answered %d %s", status, got.Error)
		}
	}
}

func post(ctx context.Context, at string, form url.Values, v any) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxLoginAnswer))
	if err != nil {
		return 0, err
	}
	_ = json.Unmarshal(b, v) // what is missing is empty
	return resp.StatusCode, nil
}

// keepLogin stores a key as docker login does: with the credential helper that
// docker's config file names, or in the file itself.
func keepLogin(ctx context.Context, host string, key deviceKey) (where string, err error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".docker")
	}
	name := filepath.Join(dir, "config.json")
	doc := map[string]json.RawMessage{}
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(bytes.TrimSpace(b)) > 0 {
		if err := json.Unmarshal(b, &doc); err != nil {
			return "", fmt.Errorf("%s is not JSON", name)
		}
	}
	var helpers map[string]string
	var store string
	_ = json.Unmarshal(doc["credHelpers"], &helpers) // missing is none
	_ = json.Unmarshal(doc["credsStore"], &store)
	if h := helpers[host]; h != "" {
		store = h
	}
	if store != "" {
		return "docker-credential-" + store, keepWithHelper(ctx, store, host, key)
	}
	auths := map[string]json.RawMessage{}
	if raw := doc["auths"]; raw != nil {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return "", fmt.Errorf("auths in %s is no object", name)
		}
	}
	if auths[host], err = json.Marshal(map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(key.User + ":" + key.Key))}); err != nil {
		return "", err
	}
	if doc["auths"], err = json.Marshal(auths); err != nil {
		return "", err
	}
	if b, err = json.MarshalIndent(doc, "", "\t"); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return name, replaceFile(name, append(b, '\n'))
}

// replaceFile writes a file that only its owner can read, as a whole or not at all.
func replaceFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".config-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// keepWithHelper gives the key to a credential helper of docker.
func keepWithHelper(ctx context.Context, helper, host string, key deviceKey) error {
	if strings.ContainsAny(helper, `/\`) {
		return fmt.Errorf("docker's config file names a strange credential helper: %q", helper)
	}
	in, err := json.Marshal(map[string]string{"ServerURL": host, "Username": key.User, "Secret": key.Key})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, "store") //nolint:gosec // the user's own file names it
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker-credential-%s: %w: %.200s", helper, err, out)
	}
	return nil
}
