package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlCredential        = `SELECT kind, id, owner, label, scopes, claims, agent, created, expires, used, hash FROM credentials WHERE hash = $1`
	sqlOwnedCredentials  = `SELECT kind, id, owner, label, scopes, claims, agent, created, expires, used, hash FROM credentials WHERE owner = $1 AND kind = $2 ORDER BY created, id LIMIT $3`
	sqlAddCredential     = `INSERT INTO credentials (hash, kind, id, owner, label, scopes, claims, agent, created, expires, used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)`
	sqlCountOwned        = `SELECT COUNT(*) FROM credentials WHERE owner = $1 AND kind = $2`
	sqlTakenCredential   = `SELECT COUNT(*) FROM credentials WHERE kind = $1 AND id = $2`
	sqlTakenHash         = `SELECT COUNT(*) FROM credentials WHERE hash = $1`
	sqlDropCredential    = `DELETE FROM credentials WHERE hash = $1`
	sqlDropOwned         = `DELETE FROM credentials WHERE kind = $1 AND id = $2 AND owner = $3`
	sqlUnclaimed         = `SELECT kind, id, owner, label, scopes, claims, agent, created, expires, used, hash FROM credentials WHERE kind = $1 AND id = $2 AND owner = '' AND (expires = 0 OR expires > $3)`
	sqlClaimCredential   = `UPDATE credentials SET owner = $2, claims = $3 WHERE hash = $1`
	sqlUsedCredential    = `UPDATE credentials SET used = $2 WHERE hash = $1 AND used < $2`
	sqlExpireCredentials = `DELETE FROM credentials WHERE hash IN (SELECT hash FROM credentials WHERE expires > 0 AND kind <> 'key' AND expires < $1 ORDER BY expires LIMIT 100)`
	maxHash              = 64
	maxUsedCredentials   = 100_000
	credentialsPerWrite  = 200
)

// uses are credentials that were used since that was last written down.
type uses struct {
	mu   sync.Mutex // guards last
	last map[string]int64
}

func (u *uses) add(hash []byte, at int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[string]int64)
	}
	if len(u.last) < maxUsedCredentials {
		u.last[string(hash)] = at
	}
}

func (u *uses) take() map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.last
	u.last = nil
	return last
}

// keepUses writes down when credentials were last used, until ctx ends, and then
// once more.
func (c *Catalog) keepUses(ctx context.Context) {
	for more := true; more; {
		more = c.sleep(ctx, usedEvery)
		last := context.WithoutCancel(ctx)
		if err := c.writeUses(last); err != nil {
			c.log.Warn("writing down when credentials were used", "error", err)
		}
	}
}

func (c *Catalog) writeUses(ctx context.Context) error {
	last := c.uses.take()
	hashes := make([]string, 0, len(last))
	for h := range last {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes) // two processes never wait for each other's rows
	for part := range slices.Chunk(hashes, credentialsPerWrite) {
		err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil { // the rows are lock enough
				return err
			}
			for _, h := range part {
				if err := tx.Queue(sqlUsedCredential, []byte(h), last[h]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// knownCredential is a row of the table of credentials.
type knownCredential struct {
	registry.Credential
	hash  []byte
	found bool
}

func (x *knownCredential) scan(scan func(...any) error) error {
	var kind, scopes, claims string
	if err := scan(&kind, &x.ID, &x.Owner, &x.Label, &scopes, &claims, &x.Agent, &x.Created, &x.Expires, &x.Used, &x.hash); err != nil {
		return err
	}
	x.Kind, x.found = registry.CredentialKind(kind), true
	return cmp.Or(json.Unmarshal([]byte(scopes), &x.Scopes), json.Unmarshal([]byte(claims), &x.Claims))
}

// owns returns nil if a may handle the credentials of owner: its own, but not with
// a credential that is limited itself, or anybody's as an administrator.
func (c *Catalog) owns(a registry.Actor, owner string) error {
	if a.Scope != nil {
		return registry.ErrDenied.With("a credential with limits can't handle credentials")
	}
	if a.ID != "" && a.ID == owner {
		return nil
	}
	return c.access.allow(a, "", registry.ActAdmin)
}

// AddCredential stores a credential.
func (c *Catalog) AddCredential(ctx context.Context, a registry.Actor, x registry.Credential, hash []byte) error {
	if err := x.Check(); err != nil {
		return err
	}
	if len(hash) == 0 || len(hash) > maxHash {
		return registry.ErrParameterInvalid.With("a hash has 1 to %d bytes", maxHash)
	}
	if x.Owner != "" {
		if err := c.owns(a, x.Owner); err != nil {
			return err
		}
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		if err := tx.Queue(sqlExpireCredentials, c.now()); err != nil {
			return err
		}
		var owned, sameID, sameHash int
		err := tx.Run(count(&owned, sqlCountOwned, x.Owner, string(x.Kind)), count(&sameID, sqlTakenCredential, string(x.Kind), x.ID), count(&sameHash, sqlTakenHash, hash))
		if err != nil {
			return err
		}
		if sameID+sameHash > 0 {
			return registry.ErrParameterInvalid.With("there is such a credential already")
		}
		if owned >= registry.MaxCredentials {
			return registry.ErrTooManyRequests.With("there are %d credentials of the kind already", owned)
		}
		u, err := c.user(tx, x.Owner)
		if err != nil {
			return err
		}
		if u.Disabled {
			return registry.ErrDenied.With("the account is disabled")
		}
		claims := registry.MadeFor(a, x)
		return tx.Queue(sqlAddCredential, hash, string(x.Kind), x.ID, x.Owner, x.Label, asJSON(x.Scopes), asJSON(claims), x.Agent, c.now(), x.Expires)
	})
}

// count is a statement that counts.
func count(n *int, text string, args ...any) sqldb.Statement {
	return sqldb.Statement{Text: text, Args: args, Row: func(scan func(...any) error) error { return scan(n) }}
}

// UseCredential returns a credential and its owner.
func (c *Catalog) UseCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	var x knownCredential
	err := x.scan(c.db.QueryRow(ctx, sqlCredential, hash).Scan)
	if isNoRows(err) {
		return registry.Credential{}, registry.User{}, registry.ErrUnauthorized
	}
	var u knownUser
	if err == nil && x.Owner != "" {
		if err = u.scan(c.db.QueryRow(ctx, sqlUser, x.Owner).Scan); isNoRows(err) {
			err = nil
		}
	}
	if err != nil {
		return registry.Credential{}, registry.User{}, fmt.Errorf("looking up a credential: %w", err)
	}
	if err := c.good(&x, &u, kind); err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	c.uses.add(x.hash, c.now())
	return x.Credential, u.User, nil
}

// good returns an error unless a credential may be used. It completes the owner.
func (c *Catalog) good(x *knownCredential, u *knownUser, kind registry.CredentialKind) error {
	if !x.found || x.Kind != kind || x.Expired(c.opt.Now()) || u.Disabled {
		return registry.ErrUnauthorized
	}
	u.ID = x.Owner
	x.Claims = registry.OwnedBy(x.Claims, u.User, u.origin != "")
	return nil
}

// TakeCredential returns a credential and its owner, and removes it.
func (c *Catalog) TakeCredential(ctx context.Context, kind registry.CredentialKind, hash []byte) (registry.Credential, registry.User, error) {
	var x knownCredential
	var u knownUser
	err := c.db.Write(ctx, func(tx *sqldb.Tx) (err error) {
		x, u = knownCredential{}, knownUser{}
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		if err := tx.Run(sqldb.Statement{Text: sqlCredential, Args: []any{hash}, Row: x.scan}); err != nil {
			return err
		}
		if x.Owner != "" {
			if u, err = c.user(tx, x.Owner); err != nil {
				return err
			}
		}
		if err := c.good(&x, &u, kind); err != nil {
			return err
		}
		if err := tx.Queue(sqlDropCredential, hash); err != nil {
			return err
		}
		return tx.Queue(sqlRevise)
	})
	if err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	return x.Credential, u.User, nil
}

// ClaimCredential makes a the owner of a credential that has none.
func (c *Catalog) ClaimCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, id string) error {
	if err := registry.CheckUser(a.ID); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		var x knownCredential
		if err := tx.Run(sqldb.Statement{Text: sqlUnclaimed, Args: []any{string(kind), id, c.now()}, Row: x.scan}); err != nil {
			return err
		}
		if !x.found {
			return registry.ErrParameterInvalid.With("nobody waits with this code")
		}
		return tx.Queue(sqlClaimCredential, x.hash, a.ID, asJSON(registry.ClaimedBy(x.Claims, a)))
	})
}

// Credentials lists those of an owner.
func (c *Catalog) Credentials(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner string) ([]registry.Credential, error) {
	if err := c.owns(a, owner); err != nil {
		return nil, err
	}
	var all []registry.Credential
	_, err := c.page(ctx, sqlOwnedCredentials, []any{owner, string(kind), registry.MaxCredentials}, func(rows *sqldb.Rows) error {
		var x knownCredential
		err := x.scan(rows.Scan)
		all = append(all, x.Credential)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing credentials: %w", err)
	}
	return all, nil
}

// RemoveCredential removes one of an owner.
func (c *Catalog) RemoveCredential(ctx context.Context, a registry.Actor, kind registry.CredentialKind, owner, id string) error {
	if err := c.owns(a, owner); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(identities()); err != nil {
			return err
		}
		n, err := tx.Exec(sqlDropOwned, string(kind), id, owner)
		if err == nil && n == 0 {
			err = registry.ErrParameterInvalid.With("there is no such credential")
		}
		if err != nil {
			return err
		}
		return tx.Queue(sqlRevise)
	})
}
