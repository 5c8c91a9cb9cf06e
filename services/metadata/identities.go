package metadata

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlRevision        = `SELECT revision FROM identity_state WHERE one = 1`
	sqlRevise          = `UPDATE identity_state SET revision = revision + 1 WHERE one = 1`
	sqlTokenKeys       = `SELECT id, seed, created, until FROM token_keys WHERE until > $1 ORDER BY created DESC, id`
	sqlAddTokenKey     = `INSERT INTO token_keys (id, seed, created, until) VALUES ($1, $2, $3, $4)`
	sqlDropTokenKeys   = `DELETE FROM token_keys`
	sqlExpireTokenKeys = `DELETE FROM token_keys WHERE until <= $1`
	sqlDisabledUsers   = `SELECT id FROM users WHERE disabled > 0 ORDER BY id LIMIT $1`

	sqlUser    = `SELECT id, service, disabled, member_of, note, created, seen, origin FROM users WHERE id = $1`
	sqlUsers   = `SELECT id, service, disabled, member_of, note, created, seen, origin FROM users WHERE id > $1 ORDER BY id LIMIT $2`
	sqlAddUser = `INSERT INTO users (id, origin, service, disabled, member_of, note, created, seen) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	sqlSeeUser = `UPDATE users SET member_of = $2, seen = $3, origin = $4 WHERE id = $1`
	sqlSetUser = `UPDATE users SET disabled = $2, member_of = $3, note = $4 WHERE id = $1`
	sqlEndUser = `DELETE FROM users WHERE id = $1`

	sqlEndSessions = `DELETE FROM credentials WHERE owner = $1 AND kind <> 'key'`
	sqlEndOwner    = `DELETE FROM credentials WHERE owner = $1`
)

// identities is the lock of who changes what is known of users.
func identities() sqldb.Lock { return sqldb.Lock{Name: "identities"} }

// Trust returns what tokens are verified with.
func (c *Catalog) Trust(ctx context.Context, have int64) (registry.Trust, error) {
	t, newest, err := c.readTrust(ctx, have)
	if err == nil && newest < c.opt.Now().Add(-registry.TokenKeyLife).UnixMicro() {
		if err = c.makeTokenKey(ctx); err == nil {
			t, _, err = c.readTrust(ctx, have)
		}
	}
	if err != nil {
		return registry.Trust{}, fmt.Errorf("reading what tokens are verified with: %w", err)
	}
	return t, nil
}

// readTrust also returns when the newest key was made.
func (c *Catalog) readTrust(ctx context.Context, have int64) (t registry.Trust, newest int64, err error) {
	// The revision first: what is read later is at least as new.
	if err := c.db.QueryRow(ctx, sqlRevision).Scan(&t.Revision); err != nil {
		return t, 0, err
	}
	_, err = c.page(ctx, sqlTokenKeys, []any{c.now()}, func(rows *sqldb.Rows) error {
		var k registry.SigningKey
		var created int64
		err := rows.Scan(&k.ID, &k.Seed, &created, &k.Until)
		newest = max(newest, created)
		t.Keys = append(t.Keys, k)
		return err
	})
	if err != nil {
		return t, 0, err
	}
	if t.Revision == have {
		t.Keys = nil
		return t, newest, nil
	}
	_, err = c.page(ctx, sqlDisabledUsers, []any{registry.MaxDisabled}, func(rows *sqldb.Rows) error {
		var id string
		err := rows.Scan(&id)
		t.Disabled = append(t.Disabled, id)
		return err
	})
	return t, newest, err
}

// makeTokenKey makes a key, unless another process was faster.
func (c *Catalog) makeTokenKey(ctx context.Context) error {
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		newest := int64(0)
		err := tx.Run(sqldb.Statement{Text: sqlTokenKeys, Args: []any{c.now()}, Row: func(scan func(...any) error) error {
			var k registry.SigningKey
			var created int64
			err := scan(&k.ID, &k.Seed, &created, &k.Until)
			newest = max(newest, created)
			return err
		}})
		if err != nil || newest >= c.opt.Now().Add(-registry.TokenKeyLife).UnixMicro() {
			return err
		}
		if err := tx.Queue(sqlExpireTokenKeys, c.now()); err != nil {
			return err
		}
		return c.addTokenKey(tx)
	})
}

func (c *Catalog) addTokenKey(tx *sqldb.Tx) error {
	seed := make([]byte, 32)
	rand.Read(seed) // never fails, see crypto/rand
	now := c.opt.Now()
	if err := tx.Queue(sqlAddTokenKey, rand.Text()[:12], seed, now.UnixMicro(), now.Add(registry.TokenKeyLife+registry.TokenKeyGrace).UnixMicro()); err != nil {
		return err
	}
	return tx.Queue(sqlRevise)
}

// RotateTokenKeys ends all tokens.
func (c *Catalog) RotateTokenKeys(ctx context.Context, a registry.Actor) error {
	return c.changeUsers(ctx, a, func(tx *sqldb.Tx) error {
		if err := tx.Queue(sqlDropTokenKeys); err != nil {
			return err
		}
		return c.addTokenKey(tx)
	})
}

// changeUsers runs what only an administrator may do.
func (c *Catalog) changeUsers(ctx context.Context, a registry.Actor, fn func(*sqldb.Tx) error) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		return fn(tx)
	})
}

// knownUser is a row of the table of users.
type knownUser struct {
	registry.User
	origin string
	found  bool
}

func (u *knownUser) scan(scan func(...any) error) error {
	var service, disabled int64
	var groups string
	if err := scan(&u.ID, &service, &disabled, &groups, &u.Note, &u.Created, &u.Seen, &u.origin); err != nil {
		return err
	}
	u.Service, u.Disabled, u.found = service > 0, disabled > 0, true
	return json.Unmarshal([]byte(groups), &u.Groups)
}

// user reads a user in a transaction.
func (c *Catalog) user(tx *sqldb.Tx, id string) (u knownUser, err error) {
	err = tx.Run(sqldb.Statement{Text: sqlUser, Args: []any{id}, Row: u.scan})
	return u, err
}

// Login records that somebody has authenticated elsewhere.
func (c *Catalog) Login(ctx context.Context, l registry.Login) (registry.User, error) {
	if err := cmp.Or(registry.CheckUser(l.ID), registry.CheckGroups(l.Groups)); err != nil {
		return registry.User{}, err
	}
	var u knownUser
	err := c.db.Write(ctx, func(tx *sqldb.Tx) (err error) {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		if u, err = c.user(tx, l.ID); err != nil {
			return err
		}
		groups, now := asJSON(l.Groups), c.now()
		known, before := u.found, u.Groups
		u.Groups, u.Seen = slices.Clone(l.Groups), now
		switch {
		case !known:
			u.ID, u.Created = l.ID, now
			return tx.Queue(sqlAddUser, l.ID, l.Origin, 0, 0, groups, "", now, now)
		case u.Disabled:
			return registry.ErrDenied.With("the account is disabled")
		case u.Service:
			return registry.ErrDenied.With("a service account does not log in")
		case l.Origin != "" && u.origin != "" && l.Origin != u.origin:
			return registry.ErrDenied.With("the name belongs to somebody else")
		case !slices.Equal(before, l.Groups):
			if err := tx.Queue(sqlRevise); err != nil {
				return err
			}
		}
		return tx.Queue(sqlSeeUser, l.ID, groups, now, cmp.Or(u.origin, l.Origin))
	})
	if err != nil {
		return registry.User{}, err
	}
	return u.User, nil
}

// asJSON writes lists and maps of text.
func asJSON(v any) string {
	b, _ := json.Marshal(v) // fails for other types only
	return string(b)
}

// Users lists users.
func (c *Catalog) Users(ctx context.Context, a registry.Actor, p registry.Page[string]) (registry.List[registry.User], error) {
	none := registry.List[registry.User]{}
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	var list registry.List[registry.User]
	_, err = c.page(ctx, sqlUsers, []any{p.After, limit + 1}, func(rows *sqldb.Rows) error {
		var u knownUser
		if err := u.scan(rows.Scan); err != nil {
			return err
		}
		if list.More = len(list.Items) == limit; !list.More {
			list.Items = append(list.Items, u.User)
		}
		return nil
	})
	if err != nil {
		return none, fmt.Errorf("listing users: %w", err)
	}
	return list, nil
}

// PutUser disables or enables a user, and makes or changes a service account.
func (c *Catalog) PutUser(ctx context.Context, a registry.Actor, want registry.User) error {
	if err := cmp.Or(registry.CheckUser(want.ID), registry.CheckGroups(want.Groups)); err != nil {
		return err
	}
	if len(want.Note) > registry.MaxLabel {
		return registry.ErrParameterInvalid.With("a note has at most %d bytes", registry.MaxLabel)
	}
	err := c.changeUsers(ctx, a, func(tx *sqldb.Tx) error {
		u, err := c.user(tx, want.ID)
		if err != nil {
			return err
		}
		if u.found && u.Service != want.Service {
			return registry.ErrDenied.With("%s is there already, and is not of this kind", want.ID)
		}
		if want.Service {
			u.Groups, u.Note = want.Groups, want.Note
		}
		var disabled, service int64
		if want.Service {
			service = 1
		}
		if want.Disabled {
			disabled = c.now()
			if err := c.roomForDisabled(tx); err != nil {
				return err
			}
			if err := tx.Queue(sqlEndSessions, want.ID); err != nil {
				return err
			}
		}
		if err := tx.Queue(sqlRevise); err != nil {
			return err
		}
		if !u.found {
			return tx.Queue(sqlAddUser, want.ID, "", service, disabled, asJSON(u.Groups), u.Note, c.now(), 0)
		}
		return tx.Queue(sqlSetUser, want.ID, disabled, asJSON(u.Groups), u.Note)
	})
	if err != nil {
		return err
	}
	c.log.InfoContext(ctx, "user changed", "user", want.ID, "disabled", want.Disabled, "service", want.Service, "actor", a.ID)
	return nil
}

// roomForDisabled returns an error if gateways could not be told of one more
// disabled user.
func (c *Catalog) roomForDisabled(tx *sqldb.Tx) error {
	n := 0
	err := tx.Run(sqldb.Statement{Text: sqlDisabledUsers, Args: []any{registry.MaxDisabled}, Row: func(scan func(...any) error) error {
		var id string
		n++
		return scan(&id)
	}})
	if err == nil && n >= registry.MaxDisabled {
		return registry.ErrTooManyRequests.With("%d users are disabled already: remove some", n)
	}
	return err
}

// RemoveUser removes a user.
func (c *Catalog) RemoveUser(ctx context.Context, a registry.Actor, id string) error {
	err := c.changeUsers(ctx, a, func(tx *sqldb.Tx) error {
		for _, s := range []string{sqlEndUser, sqlEndOwner} {
			if err := tx.Queue(s, id); err != nil {
				return err
			}
		}
		return tx.Queue(sqlRevise)
	})
	if err == nil {
		c.log.InfoContext(ctx, "user removed", "user", id, "actor", a.ID)
	}
	return err
}

// usedEvery is how often the last use of credentials is written down.
const usedEvery = 10 * time.Second
