package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Connections of one process. Writers that wait for each other leave readers
// theirs.
const (
	readers = 10
	writers = 10
)

// lifetime is how long a connection is used: a change of the password, of the
// server behind a name, or of settings takes effect within it.
const lifetime = 30 * time.Minute

// Oldest version of the server that its makers still repair.
const (
	oldest     = 140000
	oldestName = "14"
)

// Options say how [Open] opens a database.
type Options struct {
	// DSN returns the data source name. It is called for every connection, so
	// that a password may change.
	DSN func() (config.Secret, error)
	// Durable refuses a server that would lose in a power cut what it has
	// acknowledged.
	Durable bool
}

// Open returns the database of a data source name. It checks that the database
// is fit to be used.
func Open(ctx context.Context, o Options) (*sqldb.DB, error) {
	read, write := pool(o.DSN, readers), pool(o.DSN, writers)
	if err := check(ctx, read, o.Durable); err != nil {
		return nil, fmt.Errorf("opening the metadata database: %w", errors.Join(err, read.Close(), write.Close()))
	}
	return sqldb.Open(ctx, sqldb.Options{Dialect: dialect(o.Durable), Read: read, Write: write, Idle: readers})
}

func pool(dsn func() (config.Secret, error), conns int) *sql.DB {
	db := sql.OpenDB(connector{dsn})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(lifetime)
	return db
}

// errUnfit is an error of [Open] that does not pass by waiting.
var errUnfit = errors.New("this database can't be used")

// check refuses a database that would not keep what it is told, or not as it
// was told.
func check(ctx context.Context, db *sql.DB, durable bool) error {
	var (
		version          int
		encoding, fsync  string
		name             string
		schema           sql.NullString
		standby, mayMake bool
	)
	err := db.QueryRowContext(ctx, `
		SELECT CAST(current_setting('server_version_num') AS INTEGER), current_setting('server_encoding'), current_setting('fsync'),
			current_database(), current_schema(), pg_is_in_recovery(), COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)`).
		Scan(&version, &encoding, &fsync, &name, &schema, &standby, &mayMake)
	switch {
	case err != nil:
		return err
	case version < oldest:
		return fmt.Errorf("%w: PostgreSQL %d.%d is too old, %s or later is needed", errUnfit, version/10000, version%10000, oldestName)
	case encoding != "UTF8":
		return fmt.Errorf("%w: database %s has encoding %s: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", errUnfit, name, encoding)
	case durable && fsync != "on":
		return fmt.Errorf("%w: the server runs with fsync = %s and would lose acknowledged pushes in a power cut: set fsync = on, or storage.commit to false", errUnfit, fsync)
	case standby:
		return errors.New("the server is a standby: name the primary, or all servers with target_session_attrs=read-write")
	case !schema.Valid:
		return fmt.Errorf("%w: no schema of the search_path exists: make one for this role (CREATE SCHEMA … AUTHORIZATION …), and name it with ALTER ROLE … SET search_path", errUnfit)
	case !mayMake:
		return fmt.Errorf("%w: the role may not make tables in schema %s of database %s: make it the owner of the database, or of a schema of its own", errUnfit, schema.String, name)
	}
	return nil
}

// patience is how long [OpenConfigured] waits for a database that is not there
// yet. Whoever supervises the process starts it again.
const patience = 2 * time.Minute

// OpenConfigured is the metadata.OpenDB of a PostgreSQL database. It waits for a
// while if that can't be reached.
func OpenConfigured(ctx context.Context, cfg config.Storage, _ func(error), log *slog.Logger) (*sqldb.DB, error) {
	return openPatiently(ctx, Options{DSN: cfg.Metadata.ReadDSN, Durable: cfg.Durable()}, patience, log)
}

func openPatiently(ctx context.Context, o Options, patience time.Duration, log *slog.Logger) (*sqldb.DB, error) {
	dsn, err := o.DSN()
	if err != nil {
		return nil, fmt.Errorf("opening the metadata database: %w", err)
	}
	if _, err := parse(dsn); err != nil { // no use to wait
		return nil, fmt.Errorf("opening the metadata database: %w", err)
	}
	begin := time.Now()
	for wait := time.Second / 4; ; wait = min(2*wait, 5*time.Second) {
		db, err := Open(ctx, o)
		if err == nil || errors.Is(err, errUnfit) || time.Since(begin)+wait > patience {
			return db, err
		}
		log.Warn("waiting for the metadata database", "error", err, "again", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("waiting for the metadata database: %w", errors.Join(ctx.Err(), err))
		}
	}
}
