//go:build e2e

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// ann is the only user of a provider.
type ann struct{}

func (ann) GetUserByID(id string) *storage.User {
	return &storage.User{ID: "1", Username: "ann", Password: password("ann"), Email: "ann@corp.test", EmailVerified: true}
}

func (a ann) GetUserByUsername(string) *storage.User { return a.GetUserByID("1") }
func (ann) ExampleClientID() string                  { return "service" }

// startProvider runs an OpenID provider in this process until t ends.
func startProvider(t *testing.T) (issuer string) {
	t.Helper()
	provider := httptest.NewUnstartedServer(nil)
	issuer = "http://" + provider.Listener.Addr().String()
	old := slog.Default()
	provider.Config.Handler = exampleop.SetupServer(issuer, storage.NewStorage(ann{}), slog.New(slog.DiscardHandler), false, op.WithAllowInsecure())
	slog.SetDefault(old)
	provider.Start()
	t.Cleanup(provider.Close)
	return issuer
}

// deviceWay is "berth login": ann agrees in her browser, and the key that it leaves in
// docker's configuration file is for all clients.
func deviceWay(t *testing.T, c contents) *loginWay {
	issuer := startProvider(t)
	s := startWatched(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		h := config["http"].(map[string]any)
		at := "http://127.0.0.1:" + h["port"].(string)
		storage.RegisterClients(storage.WebClient("berth", password("berth"), at+"/zot/auth/callback/corp"))
		h["externalUrl"] = at
		h["auth"] = map[string]any{"openid": map[string]any{"providers": map[string]any{"corp": map[string]any{
			"issuer": issuer, "clientid": "berth", "clientsecret": password("berth"), "scopes": []string{"openid", "email", "profile"},
		}}}}
		h["accessControl"] = onlyFor("ann@corp.test")
	}}, "", "")
	run := NewCommands(t)
	login := exec.CommandContext(t.Context(), Program(t, "berth"), "login", s.URL())
	login.Dir, login.Env = run.dir, run.env
	told, err := login.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(told)
	var page string
	for page == "" && lines.Scan() {
		page = strings.TrimPrefix(regexp.MustCompile(`Open http\S+`).FindString(lines.Text()), "Open ")
	}
	if page == "" {
		t.Fatalf("berth login names no page: %v", login.Wait())
	}
	agree(t, issuer, s.URL(), page)
	rest, _ := io.ReadAll(told)
	if err := login.Wait(); err != nil {
		t.Fatalf("berth login: %v\n%s", err, rest)
	}

	text, err := os.ReadFile(filepath.Join(run.dir, ".docker", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		Auths map[string]struct{ Auth string }
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	pair, err := base64.StdEncoding.DecodeString(kept.Auths[s.Addr].Auth)
	if err != nil || !strings.HasPrefix(string(pair), "ann@corp.test:zak_") {
		t.Fatalf("docker's config file has no key of ann for %s: %v", s.Addr, err)
	}
	return &loginWay{name: "`berth login`", addr: s.Addr, kept: string(text), mine: "mine/", others: "others/"}
}

// A page is what a browser shows: the last answer of a chain of redirects.
type page struct {
	*http.Response
	body string
}

// newBrowser has cookies, and does not follow redirects to stop.
func newBrowser(t *testing.T, stop string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if stop != "" && strings.HasPrefix(r.URL.String(), stop) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// show reads what a browser is answered.
func show(t *testing.T, resp *http.Response, err error) page {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return page{resp, string(b)}
}

// signIn opens a page that leads to the provider's, and logs ann in there.
func signIn(t *testing.T, browser *http.Client, issuer, at string) page {
	t.Helper()
	resp, err := browser.Get(at)
	shown := show(t, resp, err)
	id := shown.Request.URL.Query().Get("authRequestID")
	if id == "" {
		t.Fatalf("no page of the provider but %s: %s %s", shown.Request.URL, shown.Status, shown.body)
	}
	resp, err = browser.PostForm(issuer+"/login/username", url.Values{"username": {"ann"}, "password": {password("ann")}, "id": {id}})
	return show(t, resp, err)
}

// agree opens the page of a login by device code, logs ann in at the provider, and sends
// the form that she sees then.
func agree(t *testing.T, issuer, registry, at string) {
	t.Helper()
	browser := newBrowser(t, "")
	form := signIn(t, browser, issuer, at).body
	csrf := regexp.MustCompile(`name="csrf" value="([0-9a-f]+)"`).FindStringSubmatch(form)
	code := regexp.MustCompile(`name="user_code" value="([^"]+)"`).FindStringSubmatch(form)
	if csrf == nil || code == nil {
		t.Fatalf("no form to agree with: %s", form)
	}
	resp, err := browser.PostForm(registry+"/zot/auth/device/approve", url.Values{"user_code": {code[1]}, "csrf": {csrf[1]}})
	if done := show(t, resp, err); done.StatusCode != http.StatusOK {
		t.Fatalf("agreeing: %s %s", done.Status, done.body)
	}
}

// idToken returns a token of ann's that the provider has made for an audience.
func idToken(t *testing.T, issuer, audience string) string {
	t.Helper()
	const back = "http://127.0.0.1:1/back"
	storage.RegisterClients(storage.WebClient(audience, password(audience), back))
	begin := url.Values{"client_id": {audience}, "redirect_uri": {back}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"s"}}
	end := signIn(t, newBrowser(t, back), issuer, issuer+"/auth?"+begin.Encode())
	told, err := end.Location()
	if err != nil {
		t.Fatalf("the provider does not send ann back: %s %s", end.Status, end.body)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {told.Query().Get("code")}, "redirect_uri": {back}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(audience, password(audience))
	resp, err := http.DefaultClient.Do(r)
	answer := show(t, resp, err)
	var got struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil || got.IDToken == "" {
		t.Fatalf("no token: %s %s", answer.Status, answer.body)
	}
	return got.IDToken
}
