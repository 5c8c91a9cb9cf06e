package ldap

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// directory is a server that knows enough of LDAP to count what it is asked. Real
// ones are for the end-to-end tests.
type directory struct {
	net.Listener
	mu       sync.Mutex          // guards all below
	users    map[string][]string // uid to names of entries
	conns    map[net.Conn]bool
	dialled  int
	searches []string // filters
	binds    []string // names, without that of the account that searches
	drop     bool     // close connections in place of an answer
}

const reader = "cn=reader"

func newDirectory(t *testing.T) *directory {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{Listener: l, conns: map[net.Conn]bool{}, users: map[string][]string{"alice": {"cn=alice,dc=x"}, "twin": {"cn=1,dc=x", "cn=2,dc=x"}}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns[c], d.dialled = true, d.dialled+1
			d.mu.Unlock()
			go d.serve(c)
		}
	}()
	t.Cleanup(d.hangUp)
	t.Cleanup(func() { l.Close() })
	return d
}

// hangUp closes all connections.
func (d *directory) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
	}
	clear(d.conns)
}

func (d *directory) serve(c net.Conn) {
	defer c.Close()
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value, p.Children[1]
		d.mu.Lock()
		drop := d.drop
		d.mu.Unlock()
		if drop {
			return
		}
		answer := func(tag ber.Tag, code int64, children ...*ber.Packet) {
			m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
			m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
			r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
			if children == nil {
				r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
				children = []*ber.Packet{text(""), text("")}
			}
			for _, child := range children {
				r.AppendChild(child)
			}
			m.AppendChild(r)
			c.Write(m.Bytes())
		}
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			name, _ := op.Children[1].Value.(string)
			if name != reader {
				d.mu.Lock()
				d.binds = append(d.binds, name)
				d.mu.Unlock()
			}
			code := int64(ldap.LDAPResultInvalidCredentials)
			if password := op.Children[2].Data.String(); password == "right" || password == "" {
				code = 0 // an empty one is anonymous, and succeeds
			}
			answer(ldap.ApplicationBindResponse, code)
		case ldap.ApplicationSearchRequest:
			filter, _ := ldap.DecompileFilter(op.Children[6])
			d.mu.Lock()
			d.searches = append(d.searches, filter)
			uid := strings.TrimSuffix(strings.TrimPrefix(filter, "(uid="), ")")
			names := d.users[strings.ToLower(uid)]
			d.mu.Unlock()
			for _, name := range names {
				attributes := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
				for attribute, values := range map[string][]string{"uid": {"other", strings.ToLower(uid)}, "memberOf": {"cn=a", "cn=b"}} {
					pair := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
					pair.AppendChild(text(attribute))
					set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
					for _, v := range values {
						set.AppendChild(text(v))
					}
					pair.AppendChild(set)
					attributes.AppendChild(pair)
				}
				answer(ldap.ApplicationSearchResultEntry, 0, text(name), attributes)
			}
			answer(ldap.ApplicationSearchResultDone, 0)
		}
	}
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

// counts returns what was asked since the last call.
func (d *directory) counts() (searches, binds int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	searches, binds = len(d.searches), len(d.binds)
	d.searches, d.binds = nil, nil
	return searches, binds
}

func (d *directory) open(t *testing.T, change func(*config.LDAP)) *Directory {
	t.Helper()
	addr := d.Addr().(*net.TCPAddr)
	c := &config.LDAP{Address: "127.0.0.1", Port: addr.Port, Insecure: true, BindDN: reader, BindPassword: "right",
		BaseDN: "dc=x", UserAttribute: "uid", UserGroupAttribute: "memberOf"}
	if change != nil {
		change(c)
	}
	m, err := open(c, auth.Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (d *Directory) try(t *testing.T, user, password string) (registry.Actor, error) {
	t.Helper()
	a, verdict, err := d.Authenticate(t.Context(), &auth.Request{Basic: &auth.Basic{User: user, Password: password}})
	if (verdict == auth.Accepted) != (a.ID != "") {
		t.Errorf("%q: verdict %v of %v", user, verdict, a)
	}
	return a, err
}

// TestS038OneSearchAndOneBind: whatever is asked costs the directory the same, and
// nothing if the answer is known.
func TestS038OneSearchAndOneBind(t *testing.T) {
	server := newDirectory(t)
	d := server.open(t, nil)
	for _, test := range []struct {
		user, password, want string
		cost                 int
	}{
		{"alice", "right", "alice", 1},
		{"alice", "right", "alice", 0},
		{"ALICE", "right", "alice", 1}, // one person, one name
		{"alice", "wrong", "", 1},
		{"alice", "wrong", "", 0},
		{"nobody", "right", "", 1},
		{"twin", "right", "", 1}, // S-042: two entries are nobody
	} {
		a, err := d.try(t, test.user, test.password)
		searches, binds := server.counts()
		if err != nil || a.ID != test.want || searches != test.cost || binds != test.cost {
			t.Errorf("%s, %s: got %q, %v after %d searches and %d binds; want %q after %d", test.user, test.password, a.ID, err, searches, binds, test.want, test.cost)
		}
		if a.ID != "" && strings.Join(a.Groups, " ") != "cn=a cn=b" {
			t.Errorf("groups %q", a.Groups)
		}
	}
	if server.dialled != 2 {
		t.Errorf("%d connections for one to search and one to bind", server.dialled)
	}
}

// TestS041EmptyPasswordsAreNotSent: a directory takes an empty password for an
// anonymous bind, which succeeds (compare CVE-2017-14623).
func TestS041EmptyPasswordsAreNotSent(t *testing.T) {
	server := newDirectory(t)
	d := server.open(t, nil)
	for _, pair := range [][2]string{{"alice", ""}, {"alice", "\x00"}, {"alice", "\x00\x00right"}, {"", "right"}, {"alice\x00", "right"}, {strings.Repeat("a", 10000), "right"}, {"alice", strings.Repeat("p", 5000)}, {"alice", registry.NewSecret(registry.APIKeyPrefix)}} {
		if a, err := d.try(t, pair[0], pair[1]); err != nil || a.ID != "" {
			t.Errorf("%.20q: %v, %v", pair, a, err)
		}
	}
	if searches, binds := server.counts(); searches+binds != 0 {
		t.Errorf("the directory was asked: %d, %d", searches, binds)
	}
}

// TestOutage: a connection that broke is made anew without anybody noticing; a
// directory that is gone is an error, which is not remembered.
func TestOutage(t *testing.T) {
	server := newDirectory(t)
	d := server.open(t, nil)
	if a, err := d.try(t, "alice", "right"); err != nil || a.ID != "alice" {
		t.Fatal(a, err)
	}
	server.hangUp()
	if a, err := d.try(t, "alice", "wrong"); err != nil || a.ID != "" {
		t.Errorf("after the connections broke: %v, %v", a, err)
	}
	server.mu.Lock()
	server.drop = true
	server.mu.Unlock()
	if _, err := d.try(t, "Alice", "right"); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("without a directory: %v", err)
	}
	if a, err := d.try(t, "alice", "right"); err != nil || a.ID != "alice" {
		t.Errorf("who is remembered: %v, %v", a, err)
	}
	server.mu.Lock()
	server.drop = false
	server.mu.Unlock()
	d.search.until, d.bind.until = d.search.until.Add(-downTime), d.bind.until.Add(-downTime)
	if a, err := d.try(t, "Alice", "right"); err != nil || a.ID != "alice" {
		t.Errorf("with it again: %v, %v", a, err)
	}
}

// TestUserIsGone: whether the directory still has a user is asked with one search a
// minute, and no bind; an outage is no answer.
func TestUserIsGone(t *testing.T) {
	server := newDirectory(t)
	d := server.open(t, nil)
	for range 3 {
		if has, err := d.Has(t.Context(), "alice"); err != nil || !has {
			t.Fatalf("alice: %v, %v", has, err)
		}
	}
	for _, who := range []string{"nobody", "twin", "", "a\x00"} {
		if has, err := d.Has(t.Context(), who); err != nil || has {
			t.Errorf("%q: %v, %v", who, has, err)
		}
	}
	if searches, binds := server.counts(); searches != 3 || binds != 0 {
		t.Errorf("%d searches, %d binds; want 3 and none", searches, binds)
	}
	server.mu.Lock()
	delete(server.users, "alice")
	server.mu.Unlock()
	d.there = auth.NewPresence(0) // time passes
	if has, err := d.Has(t.Context(), "alice"); err != nil || has {
		t.Errorf("alice, who is gone: %v, %v", has, err)
	}
	server.mu.Lock()
	server.drop = true
	server.mu.Unlock()
	if _, err := d.Has(t.Context(), "alice"); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("without a directory: %v", err)
	}
	if presenceLife <= 0 || presenceLife+operationTime > auth.RosterLife {
		t.Errorf("an answer may be older than %v", auth.RosterLife)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*config.LDAP){
		"filter":      func(c *config.LDAP) { c.UserFilter = "(objectClass=person" },
		"attribute":   func(c *config.LDAP) { c.UserAttribute = "u(id" },
		"base":        func(c *config.LDAP) { c.BaseDN = "no name" },
		"credentials": func(c *config.LDAP) { c.CredentialsFile = "/nowhere" },
		"authority":   func(c *config.LDAP) { c.CACert = "/nowhere" },
	} {
		c := &config.LDAP{Address: "127.0.0.1", BindDN: reader, BindPassword: "right", BaseDN: "dc=x", UserAttribute: "uid"}
		change(c)
		if d, err := open(c, auth.Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}}); err == nil {
			t.Errorf("%s: got %v", name, d)
		}
	}
}

// FuzzS042Query: whatever a user calls themselves, the filter asks for that name and
// for nothing else.
func FuzzS042Query(f *testing.F) {
	for _, s := range []string{"alice", "*", "*)(uid=*", "admin)(&)", `\2a`, "a\x00b", "é", "\xff", strings.Repeat("(", 100)} {
		f.Add(s)
	}
	d := &Directory{c: config.LDAP{UserAttribute: "uid"}, filter: "(objectClass=person)"}
	f.Fuzz(func(t *testing.T, user string) {
		p, err := ldap.CompileFilter(d.query(user))
		if err != nil {
			if user != "" {
				t.Errorf("%q: %v", user, err)
			}
			return
		}
		if p.Tag != ldap.FilterAnd || len(p.Children) != 2 || p.Children[1].Tag != ldap.FilterEqualityMatch || len(p.Children[1].Children) != 2 {
			t.Fatalf("%q makes another filter: %s", user, d.query(user))
		}
		if got := p.Children[1].Children[1].Data.String(); got != user {
			t.Errorf("%q is asked for as %q", user, got)
		}
	})
}
