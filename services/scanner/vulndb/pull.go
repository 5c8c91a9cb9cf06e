package vulndb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// layerType is the media type of the layer that has the database.
const layerType = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"

// Puller fetches databases from a registry.
type Puller struct {
	// Client makes the requests.
	Client *http.Client
	Ref    Ref
}

// Ref names an artifact of a registry.
type Ref struct {
	Base string // URL of the registry: https://host
	Repo string
	Tag  string // or digest
	user *url.Userinfo
}

// ParseRef parses a repository as Trivy's options have it, host/name[:tag], or with
// http:// before it, and maybe user:password@ before the host. The tag is the schema
// unless it is there; a digest (@sha256:…) in its place pins one database.
func ParseRef(text string) (Ref, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		return Ref{}, errors.New("want host/name[:tag], maybe with http:// before it")
	}
	r := Ref{Base: u.Scheme + "://" + u.Host, Repo: strings.TrimPrefix(u.Path, "/"), Tag: fmt.Sprint(schema), user: u.User}
	if name, digest, ok := strings.Cut(r.Repo, "@"); ok {
		r.Repo, r.Tag = name, digest
	} else if name, tag, ok := strings.Cut(r.Repo, ":"); ok {
		r.Repo, r.Tag = name, tag
	}
	if _, err := registry.ParseName(r.Repo); err != nil {
		return Ref{}, err
	}
	if _, err := registry.ParseReference(r.Tag); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// String returns the artifact's name, without a password.
func (r Ref) String() string {
	sep := ":"
	if strings.Contains(r.Tag, ":") { // a digest
		sep = "@"
	}
	return strings.TrimPrefix(strings.TrimPrefix(r.Base, "https://"), "http://") + "/" + r.Repo + sep + r.Tag
}

// Plain reports whether the registry is asked without TLS.
func (r Ref) Plain() bool { return strings.HasPrefix(r.Base, "http:") }

// Pull opens the layer with the database, unless its digest is have. Reading it ends
// with an error if its bytes are wrong. The caller closes it; it is nil if there is
// nothing new.
func (p *Puller) Pull(ctx context.Context, have registry.Digest) (io.ReadCloser, registry.Digest, error) {
	s := &session{p: p}
	resp, err := s.get(ctx, "/v2/"+p.Ref.Repo+"/manifests/"+p.Ref.Tag, registry.TypeManifest+", "+registry.TypeDockerManifest)
	if err != nil {
		return nil, "", fmt.Errorf("asking for %s: %w", p.Ref, err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, registry.MaxManifest))
	resp.Body.Close()
	if err != nil {
		return nil, "", fmt.Errorf("asking for %s: %w", p.Ref, err)
	}
	if pinned, err := registry.ParseDigest(p.Ref.Tag); err == nil && pinned.Algorithm().FromBytes(b) != pinned {
		return nil, "", fmt.Errorf("%s: the manifest that was sent is another one", p.Ref)
	}
	var m struct {
		Layers []registry.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(b, &m); err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != layerType {
		return nil, "", fmt.Errorf("%s is no vulnerability database: want a manifest with one layer of type %s", p.Ref, layerType)
	}
	d, err := registry.ParseDigest(string(m.Layers[0].Digest))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", p.Ref, err)
	}
	if d == have {
		return nil, d, nil
	}
	resp, err = s.get(ctx, "/v2/"+p.Ref.Repo+"/blobs/"+string(d), "*/*")
	if err != nil {
		return nil, "", fmt.Errorf("fetching %s: %w", p.Ref, err)
	}
	return &verified{body: resp.Body, v: d.Verifier()}, d, nil
}

// verified is a body that ends with an error if its bytes are not those of a digest.
type verified struct {
	body io.ReadCloser
	v    interface {
		io.Writer
		Verified() bool
	}
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.body.Read(p)
	_, _ = v.v.Write(p[:n]) // a hash, see hash.Hash
	if err == io.EOF && !v.v.Verified() {
		return n, errors.New("the database that was sent is not the one that was announced")
	}
	return n, err
}

func (v *verified) Close() error { return v.body.Close() }

// session is a few requests with one token.
type session struct {
	p     *Puller
	token string
}

func (s *session) get(ctx context.Context, path, accept string) (*http.Response, error) {
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.p.Ref.Base+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", accept)
		s.authorize(req)
		resp, err := s.p.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || try > 0 {
			return nil, fmt.Errorf("the registry answers %s", resp.Status)
		}
		if err := s.login(ctx, resp.Header.Get("WWW-Authenticate")); err != nil {
			return nil, err
		}
	}
}

func (s *session) authorize(req *http.Request) {
	switch {
	case s.token != "":
		req.Header.Set("Authorization", "Bearer "+s.token)
	case s.p.Ref.user != nil:
		password, _ := s.p.Ref.user.Password()
		req.SetBasicAuth(s.p.Ref.user.Username(), password)
	}
}

// login fetches the token that a challenge asks for.
func (s *session) login(ctx context.Context, challenge string) error {
	params, ok := strings.CutPrefix(challenge, "Bearer ")
	if !ok {
		return errors.New("the registry wants a user name and password")
	}
	v := map[string]string{}
	for params != "" {
		key, rest, ok := strings.Cut(params, `="`)
		value, rest, closed := strings.Cut(rest, `"`)
		if !ok || !closed {
			break
		}
		v[strings.Trim(key, ", ")] = value
		params = rest
	}
	realm, err := url.Parse(v["realm"])
	if err != nil || realm.Host == "" {
		return errors.New("the registry's challenge has no realm")
	}
	q := realm.Query()
	q.Set("service", v["service"])
	q.Set("scope", "repository:"+s.p.Ref.Repo+":pull")
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return err
	}
	base, err := url.Parse(s.p.Ref.Base)
	if err == nil && realm.Host == base.Host && realm.Scheme == base.Scheme { // a password goes to nobody else
		s.authorize(req)
	}
	resp, err := s.p.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer) != nil {
		return fmt.Errorf("the token service answers %s", resp.Status)
	}
	if s.token = answer.Token; s.token == "" {
		s.token = answer.AccessToken
	}
	return nil
}
