package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// writeUsers writes a password file of users whose passwords are "sesame".
func writeUsers(t testing.TB, users ...string) string {
	t.Helper()
	const hash = "$5$rounds=1000$abc$jX8XTqyQhvSfDomOuUN2Co5aLqzPh6MYHxEjQL6zvlA" // the quickest that is allowed
	file, text := filepath.Join(t.TempDir(), "htpasswd"), ""
	for _, u := range users {
		text += u + ":" + hash + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func env() Env {
	return Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}, Slots: NewSlots(0)}
}

func fileChain(t testing.TB, file string) *Chain {
	t.Helper()
	m, err := OpenHTPasswd(file, env())
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Closed: true, Challenge: Challenge{Realm: "x"}, Methods: Methods{Basic: []Method{m}}})
}

// counting is a Remember and how often its answers had to be found.
type counting struct {
	*Remember
	found atomic.Int64
}

func (c *counting) ask(ctx context.Context, user, password, generation string) (registry.Actor, error) {
	return c.Ask(ctx, user, password, generation, func(context.Context) (registry.Actor, error) {
		c.found.Add(1)
		time.Sleep(time.Second) // fake: this is a bubble
		if password == "right" {
			return registry.Actor{ID: user}, nil
		}
		return registry.Actor{}, nil
	})
}

// TestS044OneHashPerClientAndTime: 50 clients with ten requests each at once cost 50
// hashes, and none more until the time is up.
func TestS044OneHashPerClientAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Remember: NewRemember("test", 10*time.Minute, time.Minute)}
		round := func() {
			var all sync.WaitGroup
			for i := range 500 {
				all.Go(func() {
					user := fmt.Sprintf("user%d", i%50)
					if a, err := c.ask(t.Context(), user, "right", "1"); err != nil || a.ID != user {
						t.Errorf("got %v, %v", a, err)
					}
				})
			}
			all.Wait()
		}
		for _, step := range []struct {
			after time.Duration
			want  int64
		}{{0, 50}, {0, 50}, {9 * time.Minute, 50}, {time.Minute, 100}, {0, 100}} {
			time.Sleep(step.after)
			if round(); c.found.Load() != step.want {
				t.Fatalf("%d hashes, want %d", c.found.Load(), step.want)
			}
		}
	})
}

// TestS046RememberedOnlyForWhomItWasFound: no other pair of name and password has
// the answer, however it is made up, and a changed file empties it at once.
func TestS046RememberedOnlyForWhomItWasFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Remember: NewRemember("test", time.Hour, 0)}
		c.ask(t.Context(), "alice", "right", "1")
		for _, pair := range [][3]string{
			{"alice", "righ", "1"}, {"alic", "eright", "1"}, {"alicer", "ight", "1"}, {"aliceright", "", "1"}, {"", "aliceright", "1"},
			{"alice\x00", "right", "1"}, {"Alice", "right", "1"}, {"alice", "right\x00", "1"}, {"alice", "right", "2"}, {"alice", "right", ""}, {"1alice", "right", ""},
		} {
			if c.Known(pair[0], pair[1], pair[2]) {
				t.Errorf("%q is known", pair)
			}
		}
		if !c.Known("alice", "right", "1") || c.Known("bob", "right", "1") {
			t.Error("alice is not known, or bob is")
		}
		if NewRemember("test", time.Hour, 0).secret == c.secret {
			t.Error("two caches have one key")
		}
	})
}

// TestRememberedWrongsPushOutNoRights, and memory is bounded.
func TestRememberedWrongsPushOutNoRights(t *testing.T) {
	r := NewRemember("test", time.Hour, time.Hour)
	say := func(a registry.Actor) func(context.Context) (registry.Actor, error) {
		return func(context.Context) (registry.Actor, error) { return a, nil }
	}
	r.Ask(t.Context(), "alice", "right", "", say(registry.Actor{ID: "alice"}))
	for i := range 3 * remembered {
		r.Ask(t.Context(), "alice", fmt.Sprint("wrong", i), "", say(registry.Actor{}))
	}
	if !r.Known("alice", "right", "") {
		t.Error("alice was pushed out")
	}
	if n := len(r.known[1].young) + len(r.known[1].old); n > remembered {
		t.Errorf("%d wrong answers are kept", n)
	}
	for i := range 3 * remembered {
		user := fmt.Sprint("user", i)
		r.Ask(t.Context(), user, "right", "", say(registry.Actor{ID: user}))
	}
	if n := len(r.known[0].young) + len(r.known[0].old); n > remembered {
		t.Errorf("%d right answers are kept", n)
	}
}

func TestRememberKeepsNoErrors(t *testing.T) {
	r := NewRemember("test", time.Hour, time.Hour)
	broken := errors.New("broken")
	for _, want := range []error{broken, nil, nil} {
		_, err := r.Ask(t.Context(), "a", "b", "", func(context.Context) (registry.Actor, error) { return registry.Actor{ID: "a"}, want })
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	// Who leaves first takes nothing from those who wait.
	synctest.Test(t, func(t *testing.T) {
		r := NewRemember("test", time.Hour, time.Hour)
		first, leave := context.WithCancel(t.Context())
		find := func(ctx context.Context) (registry.Actor, error) {
			time.Sleep(time.Second) // fake: this is a bubble
			return registry.Actor{ID: "a"}, ctx.Err()
		}
		go r.Ask(first, "a", "b", "", find)
		synctest.Wait()
		leave()
		if a, err := r.Ask(t.Context(), "a", "b", "", find); err != nil || a.ID != "a" {
			t.Errorf("the second got %v, %v", a, err)
		}
	})
}

// TestS044SlotsAndWhoWaits: hashes run in so many slots at a time, so many wait, and
// of one source fewer; who is known waits for none.
func TestS044SlotsAndWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(2)
		var running, most atomic.Int64
		work := func() {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second) // fake: this is a bubble
			running.Add(-1)
		}
		var turned, done atomic.Int64
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				switch err := s.Do(t.Context(), "attacker", work); {
				case errors.Is(err, registry.ErrTooManyRequests):
					turned.Add(1)
				case err == nil:
					done.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := s.Do(t.Context(), "somebody", work); err != nil {
			t.Errorf("another source: %v", err)
		}
		all.Wait()
		if turned.Load() != 200-maxWaitingPerSource || done.Load() != maxWaitingPerSource || most.Load() != 2 {
			t.Errorf("%d turned away, %d done, %d at a time", turned.Load(), done.Load(), most.Load())
		}
		if s.waiting != 0 || len(s.by) != 0 {
			t.Errorf("left over: %d, %v", s.waiting, s.by)
		}
		for i := range 2 * maxWaiting {
			all.Go(func() { s.Do(t.Context(), fmt.Sprint("source", i), work) })
		}
		synctest.Wait()
		if err := s.Do(t.Context(), "late", work); !errors.Is(err, registry.ErrTooManyRequests) {
			t.Errorf("a full queue: %v", err)
		}
		all.Wait()
	})
}

// TestS044WhoIsKnownNeedsNoSlot: all slots are taken, and who was verified before
// comes in.
func TestS044WhoIsKnownNeedsNoSlot(t *testing.T) {
	file := writeUsers(t, "alice")
	e := env()
	e.Slots = NewSlots(1)
	m, err := OpenHTPasswd(file, e)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Closed: true, Methods: Methods{Basic: []Method{m}}})
	alice := request("Authorization: " + basic("alice", "sesame"))
	if a, err := c.Authenticate(alice, Wants{}); err != nil || a.ID != "alice" {
		t.Fatalf("got %v, %v", a, err)
	}
	release, taken := make(chan struct{}), make(chan struct{})
	go e.Slots.Do(t.Context(), "attacker", func() { close(taken); <-release })
	<-taken
	defer close(release)
	if a, err := c.Authenticate(alice, Wants{}); err != nil || a.ID != "alice" {
		t.Errorf("with no slot free: %v, %v", a, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Authenticate(request("Authorization: "+basic("alice", "x")).WithContext(ctx), Wants{}); !errors.Is(err, context.Canceled) {
		t.Errorf("who is not known does not wait: %v", err)
	}
}

// TestS044WhoWaitsIsRefusedWithoutAHash: of many guesses that wait for a slot no more are
// hashed than of those that come one after the other. Who was right, and waits behind
// them from elsewhere, comes in.
func TestS044WhoWaitsIsRefusedWithoutAHash(t *testing.T) {
	file := writeUsers(t, "alice")
	synctest.Test(t, func(t *testing.T) {
		e := env()
		e.Slots = NewSlots(1)
		m, err := OpenHTPasswd(file, e)
		if err != nil {
			t.Fatal(err)
		}
		c := New(Options{Closed: true, Methods: Methods{Basic: []Method{m}}})
		release := make(chan struct{})
		go e.Slots.Do(t.Context(), "somebody", func() { <-release })
		synctest.Wait()
		var hashed, turned atomic.Int64
		var all sync.WaitGroup
		for i := range maxWaitingPerSource {
			all.Go(func() {
				r := request("Authorization: " + basic("alice", fmt.Sprint("guess", i)))
				r.RemoteAddr = "10.0.0.1:1"
				switch _, err := c.Authenticate(r, Wants{}); {
				case errors.Is(err, registry.ErrUnauthorized):
					hashed.Add(1)
				case errors.Is(err, registry.ErrTooManyRequests):
					turned.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			r := request("Authorization: " + basic("alice", "sesame"))
			r.RemoteAddr = "10.0.0.2:1"
			if a, err := c.Authenticate(r, Wants{}); err != nil || a.ID != "alice" {
				t.Errorf("the right password from elsewhere: %v, %v", a, err)
			}
		})
		synctest.Wait()
		if e.Slots.waiting != maxWaitingPerSource+2 {
			t.Fatalf("void: %d wait", e.Slots.waiting)
		}
		close(release)
		all.Wait()
		// Some may be hashed while those before them are being counted.
		if n := hashed.Load(); n < failuresPerPair || n > 3*failuresPerPair || n+turned.Load() != maxWaitingPerSource {
			t.Errorf("%d guesses were hashed, %d turned away", n, turned.Load())
		}
	})
}

// TestS044GuessersAreHeld: who is told that he guesses too much is told a second later,
// so that a loop is slow; but no more wait than there are places. All else waits for
// nothing.
func TestS044GuessersAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		f := &fake{asked: &asked, err: registry.ErrTooManyRequests}
		c := New(Options{Closed: true, Methods: Methods{Basic: []Method{f}}})
		guess := func(ctx context.Context) time.Duration {
			began := time.Now()
			if _, err := c.Authenticate(request("Authorization: "+basic("a", "b")).WithContext(ctx), Wants{}); !errors.Is(err, f.err) {
				t.Error(err)
			}
			return time.Since(began)
		}
		first := guess(t.Context())
		same := true
		for range 10 {
			took := guess(t.Context())
			if took < heldLeast || took > heldMost {
				t.Errorf("a guess takes %v", took)
			}
			same = same && took == first
		}
		if same {
			t.Errorf("each guess takes %v: many guess at one moment", first)
		}
		leaves, cancel := context.WithTimeout(t.Context(), heldLeast/4)
		defer cancel()
		if took := guess(leaves); took != heldLeast/4 {
			t.Errorf("who leaves waits %v", took)
		}
		for range maxHeld {
			go c.held.wait(t.Context())
		}
		synctest.Wait()
		if took := guess(t.Context()); took != 0 {
			t.Errorf("with all places taken it takes %v", took)
		}
		time.Sleep(heldMost) // fake: this is a bubble
		synctest.Wait()
		if n := len(c.held); n != 0 {
			t.Errorf("%d wait for ever", n)
		}
		for _, err := range []error{nil, registry.ErrUnauthorized, registry.ErrUnavailable} {
			f.err = err
			began := time.Now()
			c.Authenticate(request("Authorization: "+basic("a", "b")), Wants{})
			if took := time.Since(began); took != 0 {
				t.Errorf("an answer of %v takes %v", err, took)
			}
		}
	})
}

// TestS040TooManyWrongPasswords: guesses run into limits, by account and by source;
// other users, and clients that are known, do not notice.
func TestS040TooManyWrongPasswords(t *testing.T) {
	c := fileChain(t, writeUsers(t, "alice", "bob"))
	c.held = nil // nobody waits
	now := time.Now()
	c.failures.now = func() time.Time { return now }
	try := func(source, user, password string) string {
		r := request("Authorization: " + basic(user, password))
		r.RemoteAddr = source + ":1"
		_, err := c.Authenticate(r, Wants{})
		if err == nil {
			return "in"
		}
		return registry.AsError(err).Code.String()
	}
	if got := try("10.0.0.9", "alice", "sesame"); got != "in" {
		t.Fatal(got)
	}
	for i := range 25 {
		want := "Unauthorized"
		if i >= failuresPerPair {
			want = "TooManyRequests"
		}
		if got := try("10.0.0.1", "alice", fmt.Sprint("guess", i)); got != want {
			t.Fatalf("guess %d: %s, want %s", i+1, got, want)
		}
	}
	for _, test := range []struct{ source, user, password, want string }{
		{"10.0.0.9", "alice", "sesame", "in"},              // known
		{"10.0.0.1", "alice", "sesame", "in"},              // known, too: the secret counts
		{"10.0.0.1", "alice", "other", "TooManyRequests"},  // not known
		{"10.0.0.1", "bob", "sesame", "in"},                // another user
		{"10.0.0.2", "alice", "another", "Unauthorized"},   // another source
		{"10.0.0.1", "nobody", "whatever", "Unauthorized"}, // another name
	} {
		if got := try(test.source, test.user, test.password); got != test.want {
			t.Errorf("%s from %s: %s, want %s", test.user, test.source, got, test.want)
		}
	}
	now = now.Add(failureWindow)
	if got := try("10.0.0.1", "alice", "yet another"); got != "Unauthorized" {
		t.Errorf("a minute later: %s", got)
	}
	// From many places at one account; from one place at many accounts.
	turned := 0
	for i := range 120 {
		if try(fmt.Sprintf("10.1.0.%d", i), "alice", fmt.Sprint("spread", i)) == "TooManyRequests" {
			turned++
		}
	}
	if turned < 15 {
		t.Errorf("of 120 guesses from as many sources %d are turned away", turned)
	}
	// To a directory all these are one name.
	now = now.Add(failureWindow)
	turned = 0
	for i := range 120 {
		user := []byte("carol")
		for j := range user {
			if i>>j&1 != 0 {
				user[j] ^= 'a' ^ 'A'
			}
		}
		if try(fmt.Sprintf("10.1.0.%d", i), " "+string(user), fmt.Sprint("spread", i)) == "TooManyRequests" {
			turned++
		}
	}
	if turned != 120-failuresPerAccount {
		t.Errorf("of 120 guesses at one name, in many spellings, %d are turned away", turned)
	}
	turned = 0
	for i := range 220 {
		if try("10.2.0.1", fmt.Sprint("user", i), "x") == "TooManyRequests" {
			turned++
		}
	}
	if turned != 220-failuresPerSource {
		t.Errorf("of 220 accounts from one source %d are turned away", turned)
	}
	long := strings.Repeat("x", maxCredential)
	c.failures.add(long[:10], "10.3.0.1")
	for k := range c.failures.young {
		if len(k.account) > 0 && unsafe.StringData(k.account) == unsafe.StringData(long) {
			t.Error("a name that is counted holds the whole credentials")
		}
	}
	at := func(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }
	if b, err := parseBasic(strings.TrimPrefix(basic("alice", "secret"), "Basic ")); err != nil || at(b.User)+uintptr(len("alice:")) == at(b.Password) {
		t.Errorf("a user's name holds the password, too: %v", err)
	}
	for i := range 3 * maxFailures {
		c.failures.add(fmt.Sprint(i), "")
	}
	if n := len(c.failures.young) + len(c.failures.old); n > maxFailures {
		t.Errorf("%d are counted", n)
	}
}

func FuzzRememberKeys(f *testing.F) {
	r := NewRemember("test", time.Hour, time.Hour)
	f.Add("a", "b", "ab", "")
	f.Add("a\x00", "b", "a", "\x00b")
	f.Fuzz(func(t *testing.T, user, password, user2, password2 string) {
		same := user == user2 && password == password2
		if (r.key(user, password, "g") == r.key(user2, password2, "g")) != same {
			t.Errorf("%q %q and %q %q", user, password, user2, password2)
		}
	})
}
