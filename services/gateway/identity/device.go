package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Logins of programs by device code (RFC 8628): the program shows a code, its user
// types it into a page here after logging in in the browser, and the program, which
// asks again and again, gets an API key of that user. It works with every provider,
// whether or not that knows of devices.
const (
	deviceLife     = 10 * time.Minute
	deviceInterval = 5 * time.Second
	// deviceKeyLife is how long the API key is good, if the program does not want less.
	deviceKeyLife  = 30 * 24 * time.Hour
	devicePrefix   = "zdc_"
	maxDeviceForm  = 8 << 10
	deviceGrant    = "urn:ietf:params:oauth:grant-type:device_code"
	deviceAlphabet = "BCDFGHJKLMNPQRSTVWXZ" // RFC 8628, section 6.1
	claimLife      = "berth.life"           // of a device code: seconds that its key is good

	// devicesPerSource is how many codes one address gets in deviceLife. All that wait
	// have one limit together, which nobody may use up alone.
	devicesPerSource = 50
	// maxDeviceSources bounds the addresses that are counted.
	maxDeviceSources = 10_000
)

// begun counts the logins that have begun, by address.
type begun struct {
	mu    sync.Mutex // guards the rest
	since time.Time  // what is counted
	by    map[string]int
}

// count returns [registry.ErrTooManyRequests] if an address has begun too many.
func (b *begun) count(source string, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil || now.Sub(b.since) >= deviceLife || len(b.by) >= maxDeviceSources {
		b.since, b.by = now, make(map[string]int)
	}
	// "" are all behind a proxy that does not say who they are.
	if b.by[source] >= devicesPerSource && source != "" {
		return registry.ErrTooManyRequests.With("too many logins have begun at this address; wait some minutes")
	}
	b.by[source]++
	return nil
}

// userCode returns a code that people can type: 8 of 20 letters.
func userCode() string {
	b := make([]byte, 0, 9)
	for len(b) < 9 {
		if len(b) == 4 {
			b = append(b, '-')
			continue
		}
		var r [1]byte
		rand.Read(r[:])                                                      // never fails
		if i := int(r[0]); i < 256/len(deviceAlphabet)*len(deviceAlphabet) { // each letter as likely
			b = append(b, deviceAlphabet[i%len(deviceAlphabet)])
		}
	}
	return string(b)
}

// cleanCode returns a code as it was typed in the form that it has.
func cleanCode(text string) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(text) {
		if strings.ContainsRune(deviceAlphabet, r) {
			b.WriteRune(r)
		}
	}
	if c := b.String(); len(c) == 8 {
		return c[:4] + "-" + c[4:]
	}
	return ""
}

// device serves /zot/auth/device: POST begins a login, GET is the page of its user.
func (s *Service) device(w http.ResponseWriter, r *http.Request) error {
	if len(s.providers) == 0 {
		return registry.ErrEndpointUnknown.With("there is no provider to log in at: use a password or an API key")
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return s.devicePage(w, r)
	case http.MethodPost:
		return s.beginDevice(w, r)
	}
	w.Header().Set("Allow", "GET, HEAD, POST")
	return registry.ErrUnsupported
}

func (s *Service) form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxDeviceForm)
	err := r.ParseForm()
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return registry.ErrTooLarge.With("the body has at most %d bytes", maxDeviceForm)
	}
	if err != nil {
		return registry.ErrParameterInvalid.With("the body is not a form")
	}
	return nil
}

func (s *Service) beginDevice(w http.ResponseWriter, r *http.Request) error {
	if err := s.form(w, r); err != nil {
		return err
	}
	life := deviceKeyLife
	if text := r.PostForm.Get("expires_in"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 60 || time.Duration(n)*time.Second > 366*24*time.Hour {
			return registry.ErrParameterInvalid.With("expires_in is 60 seconds to a year")
		}
		life = time.Duration(n) * time.Second
	}
	scopes := r.PostForm["scope"]
	for _, text := range scopes {
		if _, err := scope.Parse(text); err != nil {
			return err
		}
	}
	if err := s.begun.count(auth.Source(r.RemoteAddr), s.trust.now()); err != nil {
		return err
	}
	secret, code := registry.NewSecret(devicePrefix), userCode()
	hash := registry.SecretHash(registry.DeviceCode, secret)
	err := s.o.Catalog.AddCredential(r.Context(), registry.Actor{}, registry.Credential{
		Kind: registry.DeviceCode, ID: code, Label: cut(r.PostForm.Get("client_id"), 100), Agent: cut(r.UserAgent(), registry.MaxLabel), Scopes: scopes,
		Claims: map[string]string{claimLife: strconv.Itoa(int(life / time.Second))}, Expires: s.trust.now().Add(deviceLife).UnixMicro(),
	}, hash[:])
	if err != nil {
		return err
	}
	page := s.o.External + "/zot/auth/device"
	return writeJSON(w, http.StatusOK, map[string]any{
		"device_code": secret, "user_code": code, "verification_uri": page, "verification_uri_complete": page + "?user_code=" + code,
		"expires_in": int(deviceLife / time.Second), "interval": int(deviceInterval / time.Second),
	})
}

// deviceToken serves POST /zot/auth/device/token: what a program asks until its
// user has agreed. Its answers are those of RFC 8628, section 3.5.
func (s *Service) deviceToken(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return registry.ErrUnsupported
	}
	if err := s.form(w, r); err != nil {
		return err
	}
	failed := func(code string) error { return writeJSON(w, http.StatusBadRequest, map[string]string{"error": code}) }
	if g := r.PostForm.Get("grant_type"); g != "" && g != deviceGrant {
		return failed("unsupported_grant_type")
	}
	secret := r.PostForm.Get("device_code")
	if !strings.HasPrefix(secret, devicePrefix) || len(secret) > 100 {
		return failed("expired_token")
	}
	hash := registry.SecretHash(registry.DeviceCode, secret)
	c, _, err := s.o.Catalog.UseCredential(r.Context(), registry.DeviceCode, hash[:])
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return failed("expired_token")
	case err != nil:
		return err
	case c.Owner == "":
		return failed("authorization_pending")
	}
	c, u, err := s.o.Catalog.TakeCredential(r.Context(), registry.DeviceCode, hash[:])
	if errors.Is(err, registry.ErrUnauthorized) {
		return failed("expired_token") // another call was faster
	}
	if err != nil {
		return err
	}
	life, err := strconv.Atoi(c.Claims[claimLife])
	if err != nil {
		return registry.ErrInternal.Because(err)
	}
	label := "login by device code"
	if c.Label != "" {
		label = c.Label
	}
	claims := maps.Clone(c.Claims)
	delete(claims, claimLife)
	a := registry.Actor{ID: c.Owner, Groups: u.Groups, Claims: claims}
	key, text, err := s.newKey(r.Context(), a, registry.Credential{
		Label: label, Scopes: c.Scopes, Expires: s.trust.now().Add(time.Duration(life) * time.Second).UnixMicro(),
	}, c.Agent)
	if err != nil {
		return err
	}
	s.event(r, "apikey.create", c.Owner, key.ID, nil)
	return writeJSON(w, http.StatusOK, map[string]any{
		"access_token": text, "token_type": "Basic", "username": c.Owner, "expires_in": life, "id": key.ID,
	})
}

// devicePage shows the user what asks for access, or sends him to log in.
func (s *Service) devicePage(w http.ResponseWriter, r *http.Request) error {
	code := cleanCode(r.URL.Query().Get("user_code"))
	c, _, err := s.session(r)
	if errors.Is(err, registry.ErrUnauthorized) {
		return s.choose(w, code)
	}
	if err != nil {
		return err
	}
	if code == "" {
		return page(w, http.StatusOK, `<form method="get"><label>Code that the program shows: <input name="user_code" autofocus autocomplete="off"></label> <button>Continue</button></form>`)
	}
	return page(w, http.StatusOK, fmt.Sprintf(`<p>A program that shows the code <strong>%s</strong> wants to act as <strong>%s</strong> here.</p>
<p>Agree only if you have started it yourself, just now.</p>
<form method="post" action="/zot/auth/device/approve"><input type="hidden" name="user_code" value="%s"><input type="hidden" name="csrf" value="%s"><button>Agree</button></form>`,
		html.EscapeString(code), html.EscapeString(c.Owner), html.EscapeString(code), formToken(sessionSecret(r), code)))
}

// choose lets the user log in.
func (s *Service) choose(w http.ResponseWriter, code string) error {
	next := "/zot/auth/device"
	if code != "" {
		next += "?user_code=" + code
	}
	var names []string
	for name := range s.providers {
		names = append(names, name)
	}
	slices.Sort(names)
	at := func(name string) string {
		return "/zot/auth/login?provider=" + url.QueryEscape(name) + "&callback_ui=" + url.QueryEscape(next)
	}
	if len(names) == 1 {
		return redirect(w, at(names[0]))
	}
	var list strings.Builder
	for _, name := range names {
		label := s.providers[name].Label
		if label == "" {
			label = name
		}
		fmt.Fprintf(&list, `<li><a href="%s">%s</a></li>`, html.EscapeString(at(name)), html.EscapeString(label))
	}
	return page(w, http.StatusOK, "<p>Log in with</p><ul>"+list.String()+"</ul>")
}

// approve serves POST /zot/auth/device/approve.
func (s *Service) approve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return registry.ErrUnsupported
	}
	if err := crossOrigin.Check(r); err != nil {
		return registry.ErrDenied.With("a request from another site").Because(err)
	}
	if err := s.form(w, r); err != nil {
		return err
	}
	c, u, err := s.session(r)
	if err != nil {
		return err
	}
	code := cleanCode(r.PostForm.Get("user_code"))
	if !hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(formToken(sessionSecret(r), code))) {
		return registry.ErrDenied.With("the form is not of this session")
	}
	err = s.o.Catalog.ClaimCredential(r.Context(), sessionActor(c, u), registry.DeviceCode, code)
	s.event(r, "device.approve", c.Owner, "", err)
	if err != nil {
		return err
	}
	return page(w, http.StatusOK, "<p>The program is logged in. You can close this page.</p>")
}

// formToken binds a form to the session that it was made for.
func formToken(session, code string) string {
	h := hmac.New(sha256.New, []byte(session))
	h.Write([]byte("berth form\x00" + code))
	return hex.EncodeToString(h.Sum(nil))
}

// page answers with a page that loads nothing and can't be framed.
func page(w http.ResponseWriter, status int, body string) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	_, err := w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Berth: log in</title><body>` + body + "</body></html>\n"))
	return err
}
