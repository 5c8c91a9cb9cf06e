package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlTrusted       = `SELECT id, tool, store, pem, actor, since FROM trusted ORDER BY id LIMIT $1`
	sqlAddTrusted    = `INSERT INTO trusted (id, tool, store, pem, actor, since) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`
	sqlRemoveTrusted = `DELETE FROM trusted WHERE id = $1`
	sqlParents       = `SELECT manifest FROM manifest_references WHERE repo_id = $1 AND digest = $2 AND is_manifest LIMIT $3`
)

// Trusted implements [registry.TrustStore].
func (c *Catalog) Trusted(ctx context.Context) ([]registry.TrustedKey, error) {
	var all []registry.TrustedKey
	_, err := c.page(ctx, sqlTrusted, []any{registry.MaxTrusted}, func(rows *sqldb.Rows) error {
		var k registry.TrustedKey
		err := rows.Scan(&k.ID, &k.Tool, &k.Store, &k.PEM, &k.Actor, &k.Since)
		all = append(all, k)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading trusted keys: %w", err)
	}
	return all, nil
}

// AddTrusted implements [registry.TrustStore].
func (c *Catalog) AddTrusted(ctx context.Context, a registry.Actor, k registry.TrustedKey) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	if len(k.PEM) > registry.MaxTrustedPEM {
		return registry.ErrTooLarge.With("a key has at most %d bytes", registry.MaxTrustedPEM)
	}
	k.ID = registry.TrustedID(k)
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "trusted"}); err != nil {
			return err
		}
		others := 0
		err := tx.Run(sqldb.Statement{Text: sqlTrusted, Args: []any{registry.MaxTrusted}, Row: func(scan func(dest ...any) error) error {
			var x registry.TrustedKey
			err := scan(&x.ID, &x.Tool, &x.Store, &x.PEM, &x.Actor, &x.Since)
			if x.ID != k.ID {
				others++
			}
			return err
		}})
		if err != nil {
			return err
		}
		if others >= registry.MaxTrusted {
			return registry.ErrTooLarge.With("there are %d keys already", others)
		}
		return tx.Queue(sqlAddTrusted, k.ID, k.Tool, k.Store, k.PEM, cut(a.ID), c.now())
	})
}

// RemoveTrusted implements [registry.TrustStore].
func (c *Catalog) RemoveTrusted(ctx context.Context, a registry.Actor, id string) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "trusted"}); err != nil {
			return err
		}
		n, err := tx.Exec(sqlRemoveTrusted, id)
		if err == nil && n == 0 {
			return registry.ErrParameterInvalid.With("there is no such key")
		}
		return err
	})
}

// Parents implements [registry.TrustStore].
func (c *Catalog) Parents(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Digest, error) {
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return nil, err
	}
	packed, err := pack(d)
	if err != nil {
		return nil, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return nil, err
	}
	var all []registry.Digest
	_, err = c.page(ctx, sqlParents, []any{id, packed, registry.MaxParents}, func(rows *sqldb.Rows) error {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return err
		}
		parent, err := unpack(b)
		all = append(all, parent)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the indexes of a manifest: %w", err)
	}
	return all, nil
}
