package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/doctor"
)

// Examine returns a check of the database of a config file: that it can be opened,
// and that its server is set to keep what it is told. It only reads.
func Examine(cfg config.Storage) doctor.Check {
	return func(ctx context.Context, r *doctor.Report) {
		const name, mend = "storage.metadata", "mend storage.metadata.dsn or dsnFile"
		dsn, err := cfg.Metadata.ReadDSN()
		if err == nil {
			_, err = parse(dsn)
		}
		if err != nil {
			r.Fail(name, mend, "%v", err)
			return
		}
		db := pool(cfg.Metadata.ReadDSN, 1)
		defer db.Close()
		if err := check(ctx, db, cfg.Durable()); err != nil {
			r.Fail(name, "see that the server runs and can be reached, and what it says", "%v", err)
			return
		}
		r.OK(name, "the database can be used")
		settings(ctx, r, db, cfg.Durable())
	}
}

// settings looks at what a start does not insist on.
func settings(ctx context.Context, r *doctor.Report, db *sql.DB, durable bool) {
	var (
		commit, pages, version, collation string
		conns, used                       int
		micros                            int64
	)
	before := time.Now()
	err := db.QueryRowContext(ctx, `
		SELECT current_setting('synchronous_commit'), current_setting('full_page_writes'), current_setting('server_version'),
			(SELECT datcollate FROM pg_database WHERE datname = current_database()),
			CAST(current_setting('max_connections') AS INTEGER), (SELECT CAST(count(*) AS INTEGER) FROM pg_stat_activity WHERE backend_type = 'client backend'),
			CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`).
		Scan(&commit, &pages, &version, &collation, &conns, &used, &micros)
	if err != nil {
		r.Warn("PostgreSQL settings", "", "can't be read: %v", err)
		return
	}
	doctor.Skew(r, "PostgreSQL clock", time.UnixMicro(micros), before, time.Now())
	if commit == "off" && durable {
		// Each of our transactions asks for more itself, but others may not.
		r.Warn("synchronous_commit", "set it to on", "it is off on PostgreSQL %s", version)
	} else {
		r.OK("synchronous_commit", "it is %s on PostgreSQL %s", commit, version)
	}
	if pages != "on" {
		r.Fail("full_page_writes", "set it to on, unless the file system can't tear pages", "it is %s: a power cut may damage pages", pages)
	} else {
		r.OK("full_page_writes", "it is on")
	}
	r.OK("collation", "%s; texts are compared bytewise all the same", collation)
	if need := readers + writers; conns-used < need {
		r.Warn("max_connections", "raise it, or put PgBouncer in between", "%d of %d are in use; each berth-metadata takes up to %d", used, conns, need)
	} else {
		r.OK("max_connections", "%d of %d are in use; each berth-metadata takes up to %d", used, conns, need)
	}
}
