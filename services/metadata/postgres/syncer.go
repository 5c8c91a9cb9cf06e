package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// SyncerSchema is the schema that the syncer's tables are in.
const SyncerSchema = "berth_syncer"

const sqlMakeSyncerSchema = "CREATE SCHEMA IF NOT EXISTS " + SyncerSchema

// OpenSyncer opens the syncer's own schema in the database that the catalog is in,
// and makes it where it is missing.
func OpenSyncer(ctx context.Context, cfg config.Storage, _ func(error), log *slog.Logger) (*sqldb.DB, error) {
	return openOwn(ctx, cfg, SyncerSchema, sqlMakeSyncerSchema, log)
}

// openOwn opens a schema of its own for a service, and makes it where it is missing,
// by the statement.
func openOwn(ctx context.Context, cfg config.Storage, schema, statement string, log *slog.Logger) (*sqldb.DB, error) {
	o := Options{DSN: cfg.Metadata.ReadDSN, Durable: cfg.Durable()}
	first, err := openPatiently(ctx, o, patience, log)
	if err != nil {
		return nil, err
	}
	err = first.CreateSchema(ctx, statement)
	if cerr := first.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("making the schema %s: %w", schema, err)
	}
	o.DSN = func() (config.Secret, error) {
		dsn, err := cfg.Metadata.ReadDSN()
		if err != nil {
			return "", err
		}
		return inSchema(dsn, schema), nil
	}
	return openPatiently(ctx, o, patience, log)
}

// inSchema returns a data source name whose sessions look for tables in one schema.
func inSchema(dsn config.Secret, schema string) config.Secret {
	text := string(dsn)
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return config.Secret(text + " search_path=" + schema)
	}
	u, err := url.Parse(text)
	if err != nil {
		return dsn // what is wrong with it is told elsewhere
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return config.Secret(u.String())
}
