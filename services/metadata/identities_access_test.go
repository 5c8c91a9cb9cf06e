package metadata

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// S-012 and S-013: credentials and accounts are their owner's, and an
// administrator's. A credential with limits handles none, not even its owner's.
func TestS012CredentialsOfOthers(t *testing.T) {
	c := newCatalog(t)
	c.access = new(members)
	ctx := t.Context()
	alice, eve, root := registry.Actor{ID: "alice"}, registry.Actor{ID: "eve"}, registry.Actor{ID: "root"}
	limited := registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "**", Actions: registry.ActRead}}}
	key := func(id, owner string) registry.Credential {
		return registry.Credential{Kind: registry.APIKey, ID: id, Owner: owner}
	}
	if err := c.AddCredential(ctx, alice, key("k", "alice"), []byte("hash")); err != nil {
		t.Fatal(err)
	}
	for who, a := range map[string]registry.Actor{"another": eve, "nobody": {}, "a limited credential": limited} {
		for what, call := range map[string]func() error{
			"AddCredential":    func() error { return c.AddCredential(ctx, a, key("x", "alice"), []byte("x")) },
			"Credentials":      func() error { _, err := c.Credentials(ctx, a, registry.APIKey, "alice"); return err },
			"RemoveCredential": func() error { return c.RemoveCredential(ctx, a, registry.APIKey, "alice", "k") },
			"Users":            func() error { _, err := c.Users(ctx, a, registry.Page[string]{Limit: 1}); return err },
			"PutUser":          func() error { return c.PutUser(ctx, a, registry.User{ID: "alice", Disabled: true}) },
			"RemoveUser":       func() error { return c.RemoveUser(ctx, a, "alice") },
			"RotateTokenKeys":  func() error { return c.RotateTokenKeys(ctx, a) },
		} {
			if err := call(); !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrUnauthorized) {
				t.Errorf("%s by %s: %v", what, who, err)
			}
		}
	}
	if all, err := c.Credentials(ctx, root, registry.APIKey, "alice"); err != nil || len(all) != 1 {
		t.Errorf("an administrator sees %v, %v", all, err)
	}
}

// A key signs for TokenKeyLife and verifies for TokenKeyGrace longer. A new one is
// made in time, and the revision tells.
func TestTokenKeysRotate(t *testing.T) {
	var clock atomic.Int64 // the catalog's workers look at it, too
	clock.Store(1_800_000_000)
	add := func(d time.Duration) { clock.Add(int64(d / time.Second)) }
	db := openDatabase(t, t.TempDir())
	c, err := Open(t.Context(), db, nil, Options{Now: func() time.Time { return time.Unix(clock.Load(), 0) }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}()
	ids := func() (all []string, revision int64) {
		got, err := c.Trust(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range got.Keys {
			all = append(all, k.ID)
		}
		return all, got.Revision
	}
	first, before := ids()
	add(registry.TokenKeyLife - time.Minute)
	if same, revision := ids(); fmt.Sprint(same) != fmt.Sprint(first) || revision != before {
		t.Errorf("keys %v at %d before their time, want %v at %d", same, revision, first, before)
	}
	add(2 * time.Minute)
	both, after := ids()
	if len(both) != 2 || both[1] != first[0] || after == before {
		t.Errorf("keys %v at %d, want a new one before %v", both, after, first)
	}
	add(registry.TokenKeyGrace)
	if left, _ := ids(); len(left) != 1 || left[0] != both[0] {
		t.Errorf("keys %v, want %s alone", left, both[0])
	}
}

// When a credential was used last is written down in batches, and in any case when
// the catalog is closed.
func TestLastUseIsWrittenDown(t *testing.T) {
	c := newCatalog(t)
	ctx, alice := t.Context(), registry.Actor{ID: "alice"}
	if err := c.AddCredential(ctx, alice, registry.Credential{Kind: registry.APIKey, ID: "k", Owner: "alice"}, []byte("hash")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.UseCredential(ctx, registry.APIKey, []byte("hash")); err != nil {
		t.Fatal(err)
	}
	if err := c.writeUses(ctx); err != nil {
		t.Fatal(err)
	}
	if all, err := c.Credentials(ctx, alice, registry.APIKey, "alice"); err != nil || len(all) != 1 || all[0].Used == 0 {
		t.Errorf("after a use: %+v, %v", all, err)
	}
}
