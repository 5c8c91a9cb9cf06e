package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/berth-registry/berth/registry"
)

// A login in the browser begins at /zot/auth/login and ends at
// /zot/auth/callback/PROVIDER. What must be known in between is in a cookie that
// only gateways of this installation can read.
const (
	stateCookie = "statecookie"
	flowLife    = 10 * time.Minute
	maxFlow     = 3 << 10
	maxCallback = 2 << 10
)

// flow is one login that has begun.
type flow struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE, RFC 7636
	Next     string `json:"u"` // where the user goes afterwards
	Until    int64  `json:"t"` // seconds since 1970
}

// login serves GET /zot/auth/login.
func (s *Service) login(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		return registry.ErrUnsupported
	}
	q := r.URL.Query()
	p, ok := s.providers[strings.ToLower(q.Get("provider"))]
	if !ok {
		return registry.ErrParameterInvalid.With("there is no such provider")
	}
	next := q.Get("callback_ui")
	if next != "" && !s.mayFollow(next) {
		return registry.ErrParameterInvalid.With("callback_ui must be a path here, or lead to an origin of callbackAllowOrigins")
	}
	f := flow{Provider: p.Name, State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next, Until: s.trust.now().Add(flowLife).Unix()}
	at, err := p.start(r.Context(), f)
	if err != nil {
		return err
	}
	sealed, err := s.sealFlow(r, f)
	if err != nil {
		return err
	}
	s.cookie(w, r, stateCookie, sealed, "/zot/auth/callback", flowLife, true)
	return redirect(w, at)
}

func redirect(w http.ResponseWriter, to string) error {
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusFound)
	return nil
}

// callback serves GET /zot/auth/callback/PROVIDER.
func (s *Service) callback(w http.ResponseWriter, r *http.Request, name string) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		return registry.ErrUnsupported
	}
	p, ok := s.providers[strings.ToLower(name)]
	if !ok {
		return registry.ErrEndpointUnknown
	}
	// One login, one callback, whatever comes of it.
	http.SetCookie(w, &http.Cookie{Name: stateCookie, Path: "/zot/auth/callback", MaxAge: -1, HttpOnly: true, Secure: s.o.Secure || r.TLS != nil, SameSite: http.SameSiteLaxMode})
	q := r.URL.Query()
	f, err := s.openFlow(r)
	if err != nil || f.Provider != p.Name || len(q["state"]) != 1 || subtle.ConstantTimeCompare([]byte(f.State), []byte(q.Get("state"))) != 1 {
		return s.failedLogin(r, p.Name, "", errors.New("the callback belongs to no login that began here"))
	}
	code := q.Get("code")
	if q.Get("error") != "" || code == "" || len(code) > maxCallback {
		return s.failedLogin(r, p.Name, "", errors.New("the provider did not let the user in"))
	}
	who, err := p.finish(r.Context(), f, code, q.Get("iss"))
	if err != nil {
		return s.failedLogin(r, p.Name, "", err)
	}
	u, err := s.o.Catalog.Login(r.Context(), registry.Login{ID: who.name, Groups: who.groups, Origin: who.origin})
	if err != nil {
		return s.failedLogin(r, p.Name, who.name, err)
	}
	if err := s.StartSession(w, r, registry.Actor{ID: u.ID, Groups: u.Groups, Claims: who.claims}, p.Name); err != nil {
		return s.failedLogin(r, p.Name, who.name, err)
	}
	s.event(r, "login", u.ID, p.Name, nil)
	if f.Next != "" && s.mayFollow(f.Next) {
		return redirect(w, f.Next)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// failedLogin logs why, and tells the user no more than that it did not work,
// unless the account itself is why, or the provider is away.
func (s *Service) failedLogin(r *http.Request, provider, user string, err error) error {
	if !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrTooManyRequests) {
		err = registry.ErrUnauthorized.With("the login did not work").Because(err)
	}
	s.event(r, "login", user, provider, err)
	return err
}

// mayFollow reports whether a browser may be sent to next: a path of this host, or
// a URL of an allowed origin. Browsers drop tabs and line breaks in URLs and take a
// backslash for a slash, so neither is in a path (compare CVE-2024-22244).
func (s *Service) mayFollow(next string) bool {
	if len(next) > maxCallback || strings.ContainsFunc(next, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f || c == '\uFFFD' }) {
		return false
	}
	lower := strings.ToLower(next)
	for _, hidden := range []string{"%5c", "%09", "%0a", "%0d", "%00"} {
		if strings.Contains(lower, hidden) {
			return false
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.User != nil || u.Opaque != "" {
		return false
	}
	if u.Scheme == "" && u.Host == "" {
		decoded := u.Path
		return strings.HasPrefix(next, "/") && !strings.HasPrefix(next, "//") && !strings.HasPrefix(decoded, "//") && !strings.HasPrefix(decoded, "/@")
	}
	return slices.Contains(s.o.CallbackOrigins, u.Scheme+"://"+u.Host) && (u.Scheme == "http" || u.Scheme == "https")
}

// sealFlow encrypts and authenticates a flow for its cookie.
func (s *Service) sealFlow(r *http.Request, f flow) (string, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	aead, err := s.flowCipher(r)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, b, []byte(stateCookie))), nil
}

func (s *Service) openFlow(r *http.Request) (flow, error) {
	var f flow
	c, err := r.Cookie(stateCookie)
	if err != nil {
		return f, err
	}
	if len(c.Value) > 2*maxFlow {
		return f, errors.New("the cookie is too long")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(c.Value)
	if err != nil {
		return f, err
	}
	aead, err := s.flowCipher(r)
	if err != nil {
		return f, err
	}
	if len(b) < aead.NonceSize() {
		return f, errors.New("the cookie is too short")
	}
	if b, err = aead.Open(nil, b[:aead.NonceSize()], b[aead.NonceSize():], []byte(stateCookie)); err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	if s.trust.now().Unix() > f.Until {
		return f, errors.New("the login took too long")
	}
	return f, nil
}

// flowCipher is made from the configured key, or else from one that all gateways
// of the installation share.
func (s *Service) flowCipher(r *http.Request) (cipher.AEAD, error) {
	secret := s.o.CookieKey
	if len(secret) == 0 {
		keys, err := s.o.Catalog.UploadKeys(r.Context())
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, registry.ErrInternal.With("the catalog has no keys")
		}
		secret = keys[len(keys)-1].Secret
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "berth login cookie", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
