package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// fake is a method that knows some credentials, and notes that it was asked.
type fake struct {
	name  string
	knows map[string]string // credential to user
	err   error
	asked *[]string
}

func (f *fake) Name() string { return f.name }

func (f *fake) Authenticate(_ context.Context, q *Request) (registry.Actor, Verdict, error) {
	*f.asked = append(*f.asked, f.name)
	if f.err != nil {
		return registry.Actor{}, Unknown, f.err
	}
	credential := q.Bearer
	if q.Basic != nil {
		credential = q.Basic.User + ":" + q.Basic.Password
	} else if c, err := q.HTTP.Cookie("session"); credential == "" && err == nil {
		credential = c.Value
	}
	if user := f.knows[credential]; user != "" {
		return registry.Actor{ID: user}, Accepted, nil
	}
	return registry.Actor{}, Unknown, nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func request(headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/", nil)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	return r
}

// TestOrder asks in the order of zot-compatible registries: htpasswd, LDAP, API
// keys; then sessions, then certificates, then nobody.
func TestOrder(t *testing.T) {
	down := registry.ErrUnavailable.With("down")
	for name, test := range map[string]struct {
		headers []string
		down    string // a method that can't tell
		open    bool   // anonymous clients may come in
		want    string // user; "" anonymous; else the error's code
		asked   string
	}{
		"first":                  {headers: []string{"Authorization: " + basic("alice", "file")}, want: "alice", asked: "file"},
		"second":                 {headers: []string{"Authorization: " + basic("alice", "directory")}, want: "alice", asked: "file directory"},
		"third":                  {headers: []string{"Authorization: " + basic("alice", "key")}, want: "alice", asked: "file directory key"},
		"none":                   {headers: []string{"Authorization: " + basic("alice", "x")}, open: true, want: "Unauthorized", asked: "file directory key"},
		"wrong, with a cookie":   {headers: []string{"Authorization: " + basic("alice", "x"), "Cookie: session=cookie"}, want: "Unauthorized", asked: "file directory key"},
		"token":                  {headers: []string{"Authorization: bearer token"}, want: "bob", asked: "token"},
		"wrong token":            {headers: []string{"Authorization: Bearer x", "Cookie: session=cookie"}, open: true, want: "Unauthorized", asked: "token"},
		"cookie":                 {headers: []string{"Cookie: session=cookie"}, want: "carol", asked: "session"},
		"unknown cookie":         {headers: []string{"Cookie: session=x"}, want: "Unauthorized", asked: "session peer"},
		"nothing":                {want: "Unauthorized", asked: "session peer"},
		"nothing, and may":       {open: true, want: "", asked: "session peer"},
		"docker's empty pair":    {headers: []string{"Authorization: Basic Og=="}, open: true, want: "", asked: "session peer"},
		"two headers":            {headers: []string{"Authorization: " + basic("alice", "file"), "Authorization: " + basic("alice", "file")}, open: true, want: "Unauthorized"},
		"another scheme":         {headers: []string{"Authorization: Negotiate abc"}, open: true, want: "Unauthorized"},
		"no base64":              {headers: []string{"Authorization: Basic !"}, open: true, want: "Unauthorized"},
		"no colon":               {headers: []string{"Authorization: Basic YQ=="}, open: true, want: "Unauthorized"},
		"empty token":            {headers: []string{"Authorization: Bearer "}, open: true, want: "Unauthorized"},
		"one is down":            {headers: []string{"Authorization: " + basic("alice", "x")}, down: "directory", want: "Unavailable", asked: "file directory key"},
		"one is down, not that":  {headers: []string{"Authorization: " + basic("alice", "key")}, down: "directory", want: "alice", asked: "file directory key"},
		"one is down, after it":  {headers: []string{"Authorization: " + basic("alice", "file")}, down: "directory", want: "alice", asked: "file"},
		"the certificate's down": {headers: []string{"Authorization: " + basic("alice", "file")}, down: "peer", want: "alice", asked: "file"},
	} {
		var asked []string
		method := func(name string, knows ...string) Method {
			f := &fake{name: name, asked: &asked, knows: map[string]string{}}
			if test.down == name {
				f.err = down
			}
			for i := 0; i < len(knows); i += 2 {
				f.knows[knows[i]] = knows[i+1]
			}
			return f
		}
		c := New(Options{
			Closed:    true,
			Anonymous: func() bool { return test.open },
			Methods: Methods{
				Basic:   []Method{method("file", "alice:file", "alice"), method("directory", "alice:directory", "alice"), method("key", "alice:key", "alice")},
				Bearer:  []Method{method("token", "token", "bob")},
				Session: []Method{method("session", "cookie", "carol")},
				Peer:    []Method{method("peer")},
			},
		})
		a, err := c.Authenticate(request(test.headers...), Wants{Base: true})
		got := a.ID
		if err != nil {
			got = registry.AsError(err).Code.String()
		}
		if got != test.want || strings.Join(asked, " ") != test.asked {
			t.Errorf("%s: got %q after asking %q; want %q, %q", name, got, asked, test.want, test.asked)
		}
	}
}

// An API key is not shown to a directory, which would count it as a wrong password
// of its owner.
func TestKeysAreNoPasswordsOfADirectory(t *testing.T) {
	var asked []string
	method := func(name string, knows map[string]string) Method {
		return &fake{name: name, knows: knows, asked: &asked}
	}
	c, err := Configured(t.Context(), &config.Config{HTTP: config.HTTP{Auth: &config.Auth{APIKey: true, LDAP: new(config.LDAP)}}}, Parts{
		Identity: &Identity{APIKey: method("key", map[string]string{"alice:zak_x": "alice"}), Token: method("token", nil), Session: method("session", nil)},
		LDAP:     func(context.Context, *config.LDAP, Env) (Method, error) { return method("directory", nil), nil },
	}, env().Process)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.Authenticate(request("Authorization: "+basic("alice", "zak_x")), Wants{}); err != nil || a.ID != "alice" {
		t.Fatalf("%+v, %v", a, err)
	}
	if diff := cmp.Diff([]string{"key"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// TestNeverOpenWithoutMethods: a chain that was asked for, and has no method, lets
// nobody in; one that was not asked for lets everybody in as nobody.
func TestNeverOpenWithoutMethods(t *testing.T) {
	for _, headers := range [][]string{nil, {"Authorization: " + basic("a", "b")}, {"Authorization: Bearer x"}, {"Cookie: session=x"}} {
		if a, err := New(Options{Closed: true}).Authenticate(request(headers...), Wants{}); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%q: got %v, %v", headers, a, err)
		}
		for _, c := range []*Chain{nil, New(Options{})} {
			if a, err := c.Authenticate(request(headers...), Wants{}); err != nil || a.ID != "" {
				t.Errorf("%q without authentication: %v, %v", headers, a, err)
			}
			if got := c.Challenge(request(), Wants{}); got != "" {
				t.Errorf("without authentication the challenge is %q", got)
			}
		}
	}
	if c := New(Options{Closed: true}); c.Open() {
		t.Error("it says that it is open")
	}
}

// TestAnonymous: who may come in without credentials, docker's quirk included.
func TestAnonymous(t *testing.T) {
	for name, test := range map[string]struct {
		anonymous, mixed bool
		agent            string
		wants            Wants
		want             bool
	}{
		"nobody":                  {wants: Wants{Repo: "a"}},
		"what is open":            {wants: Wants{Open: true}, want: true},
		"anonymous":               {anonymous: true, mixed: true, wants: Wants{Repo: "a"}, want: true},
		"docker at /v2/":          {anonymous: true, mixed: true, agent: "docker/28.2.2 go/go1.24", wants: Wants{Base: true}},
		"docker's other name":     {anonymous: true, mixed: true, agent: "UpstreamClient(Docker-Client/28.2.2)", wants: Wants{Base: true}},
		"docker, anonymous only":  {anonymous: true, agent: "docker/28.2.2", wants: Wants{Base: true}, want: true},
		"docker at a repository":  {anonymous: true, mixed: true, agent: "docker/28.2.2", wants: Wants{Repo: "a"}, want: true},
		"podman at /v2/":          {anonymous: true, mixed: true, agent: "containers/5.0", wants: Wants{Base: true}, want: true},
		"docker, no anonymous":    {mixed: true, agent: "docker/28.2.2", wants: Wants{Base: true}},
		"podman's docker mention": {anonymous: true, mixed: true, agent: "containers docker", wants: Wants{Base: true}, want: true},
	} {
		c := New(Options{Closed: true, Anonymous: func() bool { return test.anonymous }, Mixed: func() bool { return test.mixed }})
		_, err := c.Authenticate(request("User-Agent: "+test.agent), test.wants)
		if (err == nil) != test.want || err != nil && !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestChallenge(t *testing.T) {
	token := Challenge{Realm: "x", TokenRealm: "https://hub.example/zot/auth/token", Service: "hub"}
	for _, test := range []struct {
		c    Challenge
		w    Wants
		want string
	}{
		{Challenge{Realm: DefaultRealm}, Wants{Repo: "a"}, `Basic realm="Authorization Required"`},
		{Challenge{Realm: `the "hub"`}, Wants{}, `Basic realm="the \"hub\""`},
		{token, Wants{Base: true}, `Bearer realm="https://hub.example/zot/auth/token",service="hub"`},
		{token, Wants{Repo: "a/b", Actions: []string{"pull"}}, `Bearer realm="https://hub.example/zot/auth/token",service="hub",scope="repository:a/b:pull"`},
		{token, Wants{Repo: "a/b", Actions: []string{"pull", "push"}}, `Bearer realm="https://hub.example/zot/auth/token",service="hub",scope="repository:a/b:pull,push"`},
		{token, Wants{Actions: []string{"*"}}, `Bearer realm="https://hub.example/zot/auth/token",service="hub",scope="registry:catalog:*"`},
	} {
		c := New(Options{Closed: true, Challenge: test.c})
		r := request("Host: evil.example", "X-Forwarded-Host: evil.example")
		r.Host = "evil.example"
		if got := c.Challenge(r, test.w); got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
		if got := c.Challenge(request("X-Zot-Api-Client: zot-ui"), test.w); got != "" {
			t.Errorf("the web UI is sent %s", got)
		}
	}
}

// TestFailDelay: wrong credentials wait, all else does not.
func TestFailDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := New(Options{Closed: true, FailDelay: 5 * time.Second, Methods: Methods{Basic: []Method{&fake{asked: &asked, knows: map[string]string{"a:b": "a"}}}}})
		for _, test := range []struct {
			header string
			want   time.Duration
		}{
			{basic("a", "b"), 0},
			{basic("a", "c"), 5 * time.Second},
			{"Basic !", 5 * time.Second},
			{"", 0},
		} {
			began := time.Now()
			_, err := c.Authenticate(request("Authorization: "+test.header), Wants{})
			if took := time.Since(began); took != test.want {
				t.Errorf("%q took %v, want %v (%v)", test.header, took, test.want, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		c.Authenticate(request("Authorization: "+basic("a", "c")).WithContext(ctx), Wants{})
		if took := time.Since(began); took != time.Second {
			t.Errorf("a client that leaves waits %v", took)
		}
	})
}

// TestAdmitAndObserve: whoever was found out may still be kept out, and each attempt
// is told once.
func TestAdmitAndObserve(t *testing.T) {
	var asked []string
	var seen []Attempt
	c := New(Options{
		Closed: true,
		Admit: func(_ context.Context, a registry.Actor) error {
			return map[string]error{"eve": registry.ErrUnauthorized}[a.ID]
		},
		Observe: func(_ context.Context, a Attempt) { seen = append(seen, a) },
		Methods: Methods{Basic: []Method{&fake{name: "file", asked: &asked, knows: map[string]string{"eve:x": "eve", "Bob:x": "bob"}}}},
	})
	for _, user := range []string{"eve", "Bob", "mallory"} {
		c.Authenticate(request("Authorization: "+basic(user, "x")), Wants{})
	}
	c.Authenticate(request(), Wants{})
	var got []string
	for _, a := range seen {
		text := a.Method + " " + a.User
		if a.Err != nil {
			text += " " + registry.AsError(a.Err).Code.String()
		}
		got = append(got, text)
	}
	if diff := cmp.Diff([]string{"file eve Unauthorized", "file bob", " mallory Unauthorized"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestS039OneAnswerToWhateverIsWrong: nothing in an answer tells an unknown user
// from a wrong password.
func TestS039OneAnswerToWhateverIsWrong(t *testing.T) {
	file := writeUsers(t, "alice")
	c := fileChain(t, file)
	var texts []string
	for _, r := range []*http.Request{
		request("Authorization: " + basic("alice", "wrong")),
		request("Authorization: " + basic("nobody", "wrong")),
		request("Authorization: " + basic("alice", "")),
		request("Authorization: " + basic("", "x")),
	} {
		_, err := c.Authenticate(r, Wants{})
		e := registry.AsError(err)
		texts = append(texts, e.Code.String()+" "+e.Text()+" "+c.Challenge(r, Wants{}))
	}
	if slices.Sort(texts); len(slices.Compact(texts)) != 1 {
		t.Errorf("the answers differ: %q", texts)
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Basic Og==", basic("a", "b"), "Bearer x", "bearer  x", "Basic", "Basic YQ==", "Digest x", "Basic\tx", "Bearer " + strings.Repeat(".", 1000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := request()
		r.Header["Authorization"] = []string{header}
		q, err := read(r, Wants{})
		if err != nil {
			if !errors.Is(err, registry.ErrUnauthorized) {
				t.Errorf("%q: %v", header, err)
			}
			return
		}
		if q.Basic != nil && (q.Bearer != "" || strings.Contains(q.Basic.User, ":") || len(q.Basic.User)+len(q.Basic.Password) > maxCredential+2) {
			t.Errorf("%q is %q and %q", header, q.Basic.User, q.Bearer)
		}
		// RFC 9110 allows more spaces than net/http does.
		if scheme, rest, ok := strings.Cut(header, " "); ok {
			r.Header["Authorization"] = []string{scheme + " " + strings.TrimLeft(rest, " ")}
		}
		if user, password, ok := r.BasicAuth(); q.Basic != nil && (!ok || user != q.Basic.User || password != q.Basic.Password) {
			t.Errorf("%q: net/http finds %q, %q", header, user, password)
		}
		// docker's lone colon counts as no credentials, and it has several base64 forms.
		if user, password, ok := r.BasicAuth(); q.Basic == nil && q.Bearer == "" && header != "" && (!ok || user+password != "") {
			t.Errorf("%q is nothing, and no error", header)
		}
	})
}
