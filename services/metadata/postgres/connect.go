package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/berth-registry/berth/registry/config"
)

// dialTime bounds an attempt to connect, unless the data source name has a
// connect_timeout.
const dialTime = 5 * time.Second

// A peer that went away without a word is noticed within about half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// connector opens connections. It asks for the data source name each time, so
// that a password may change while the program runs.
type connector struct {
	dsn func() (config.Secret, error)
}

var _ driver.Connector = connector{}

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	dsn, err := c.dsn()
	if err != nil {
		return nil, err
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	return stdlib.GetConnector(*cfg, stdlib.OptionShouldPing(
		// A round trip that says nothing about the next: reads are tried again.
		func(context.Context, stdlib.ShouldPingParams) bool { return false },
	)).Connect(ctx)
}

// Driver implements [driver.Connector].
func (connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// parse returns how to connect to the database of dsn. Its errors don't tell
// what is in it.
func parse(dsn config.Secret) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(string(dsn))
	if err != nil {
		return nil, malformed(err)
	}
	switch {
	case !strings.Contains(string(dsn), "default_query_exec_mode"):
		// No statement stays prepared in a session: PgBouncer gives the next
		// transaction another one.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	case cfg.DefaultQueryExecMode == pgx.QueryExecModeExec || cfg.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol:
		return nil, fmt.Errorf("the data source name asks for default_query_exec_mode=%v: only cache_describe, cache_statement and describe_exec are of use", cfg.DefaultQueryExecMode)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = dialTime
	}
	dialer := &net.Dialer{KeepAliveConfig: keepAlive, Control: abandonSilentPeers}
	cfg.DialFunc = dialer.DialContext
	return cfg, nil
}

// malformed describes why a data source name is of no use. The parser's own
// text may hold parts of a password.
func malformed(err error) error {
	const what = "the data source name can't be used"
	if e, ok := errors.AsType[*fs.PathError](err); ok { // a certificate
		return fmt.Errorf("%s: %w", what, e)
	}
	var parsing *pgconn.ParseConfigError
	if errors.As(err, &parsing) {
		for _, key := range []string{"sslmode", "target_session_attrs", "connect_timeout", "default_query_exec_mode", "port", "sslrootcert", "sslcert"} {
			if strings.Contains(parsing.Error(), "invalid "+key) || strings.Contains(parsing.Error(), "cannot parse "+key) {
				return fmt.Errorf("%s: invalid %s", what, key)
			}
		}
	}
	return errors.New(what + ": want postgres://user@host:5432/database?sslmode=verify-full or user=… host=… dbname=…, as libpq takes it; reserved characters of a password in a URL are written %XX")
}
