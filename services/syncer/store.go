package syncer

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the syncer's database.
type store struct{ db *sqldb.DB }

func openStore(ctx context.Context, db *sqldb.DB) (store, error) {
	return store{db}, db.Migrate(ctx, migrations, "migrations")
}

// exec runs one statement that changes what lock names.
func (s store) exec(ctx context.Context, lock, query string, args ...any) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: lock}); err != nil {
			return err
		}
		_, err := tx.Exec(query, args...)
		return err
	})
}

// seen is what a tag was found to be upstream.
type seen struct {
	digest registry.Digest // "" if it was missing
	at     time.Time       // zero: never looked at
}

func (s store) tag(ctx context.Context, repo registry.Name, t registry.Tag) (seen, error) {
	var digest string
	var micros int64
	err := s.db.QueryRow(ctx, `SELECT digest, checked FROM tags WHERE repo = $1 AND tag = $2`, string(repo), string(t)).Scan(&digest, &micros)
	if errors.Is(err, sql.ErrNoRows) {
		return seen{}, nil
	}
	return seen{registry.Digest(digest), time.UnixMicro(micros)}, err
}

func (s store) setTag(ctx context.Context, repo registry.Name, t registry.Tag, v seen) error {
	return s.exec(ctx, "tag "+string(repo)+":"+string(t), `INSERT INTO tags (repo, tag, digest, checked) VALUES ($1, $2, $3, $4)
		ON CONFLICT (repo, tag) DO UPDATE SET digest = excluded.digest, checked = excluded.checked`,
		string(repo), string(t), string(v.digest), v.at.UnixMicro())
}

// mirrored reports whether a tag of repo was found upstream.
func (s store) mirrored(ctx context.Context, repo registry.Name) (bool, error) {
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1 FROM tags WHERE repo = $1 AND digest <> '' LIMIT 1`, string(repo)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// released is the time of a claim that somebody has taken back although what was
// pushed is still there.
const released = -1

// claims returns the repositories that were pushed to, and with false those where
// that does not count.
func (s store) claims(ctx context.Context) (map[registry.Name]bool, error) {
	rows, err := s.db.Query(ctx, `SELECT repo, since FROM claims`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[registry.Name]bool)
	for rows.Next() {
		var repo string
		var since int64
		if err := rows.Scan(&repo, &since); err != nil {
			return nil, err
		}
		all[registry.Name(repo)] = since != released
	}
	return all, rows.Err()
}

// claimOf is claims for one repository.
func (s store) claimOf(ctx context.Context, repo registry.Name) (claimed, known bool, err error) {
	var since int64
	err = s.db.QueryRow(ctx, `SELECT since FROM claims WHERE repo = $1`, string(repo)).Scan(&since)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	return since != released, err == nil, err
}

func (s store) claim(ctx context.Context, repo registry.Name, actor string, at time.Time) error {
	return s.exec(ctx, "claim "+string(repo), `INSERT INTO claims (repo, actor, since) VALUES ($1, $2, $3)
		ON CONFLICT (repo) DO UPDATE SET actor = excluded.actor, since = excluded.since WHERE claims.since = $4`,
		string(repo), actor, at.UnixMicro(), released)
}

// forget removes what is known of repo. pushed says that it has content that was
// pushed, which does not count from now on.
func (s store) forget(ctx context.Context, repo registry.Name, pushed bool) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "claim " + string(repo)}); err != nil {
			return err
		}
		for _, q := range []string{`DELETE FROM claims WHERE repo = $1`, `DELETE FROM tags WHERE repo = $1`, `DELETE FROM gone WHERE repo = $1`} {
			if _, err := tx.Exec(q, string(repo)); err != nil {
				return err
			}
		}
		if !pushed {
			return nil
		}
		_, err := tx.Exec(`INSERT INTO claims (repo, actor, since) VALUES ($1, '', $2)`, string(repo), released)
		return err
	})
}

// fillRow is a blob that somebody is fetching.
type fillRow struct {
	digest registry.Digest
	repo   registry.Name
	rule   string
	size   int64 // -1: not known
	since  time.Time
}

// lease takes or renews the right to fetch a blob. It returns who has it otherwise.
func (s store) lease(ctx context.Context, f fillRow, holder string, now, until time.Time) (other string, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		other = ""
		if err := tx.Lock(sqldb.Lock{Name: "fill " + string(f.digest)}); err != nil {
			return err
		}
		var has string
		var ends int64
		err := tx.QueryRow(`SELECT holder, until FROM fills WHERE digest = $1`, string(f.digest)).Scan(&has, &ends)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err == nil && has != holder && ends > now.UnixMicro() {
			other = has
			return nil
		}
		_, err = tx.Exec(`INSERT INTO fills (digest, repo, rule, size, holder, until, since) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (digest) DO UPDATE SET repo = excluded.repo, rule = excluded.rule, size = excluded.size, holder = excluded.holder, until = excluded.until`,
			string(f.digest), string(f.repo), f.rule, f.size, holder, until.UnixMicro(), f.since.UnixMicro())
		return err
	})
	return other, err
}

// endFill gives up the right to fetch a blob.
func (s store) endFill(ctx context.Context, d registry.Digest, holder string) error {
	return s.exec(ctx, "fill "+string(d), `DELETE FROM fills WHERE digest = $1 AND holder = $2`, string(d), holder)
}

// fills returns the blobs that holder was fetching.
func (s store) fills(ctx context.Context, holder string) ([]fillRow, error) {
	rows, err := s.db.Query(ctx, `SELECT digest, repo, rule, size, since FROM fills WHERE holder = $1 ORDER BY since`, holder)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []fillRow
	for rows.Next() {
		var digest, repo, rule string
		var size, since int64
		if err := rows.Scan(&digest, &repo, &rule, &size, &since); err != nil {
			return nil, err
		}
		all = append(all, fillRow{registry.Digest(digest), registry.Name(repo), rule, size, time.UnixMicro(since)})
	}
	return all, rows.Err()
}

// showAddress notes where a holder is reached, and forgets those not seen since old.
func (s store) showAddress(ctx context.Context, holder, address string, now, old time.Time) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "syncers"}); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO syncers (holder, address, seen) VALUES ($1, $2, $3)
			ON CONFLICT (holder) DO UPDATE SET address = excluded.address, seen = excluded.seen`, holder, address, now.UnixMicro())
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM syncers WHERE seen < $1`, old.UnixMicro())
		return err
	})
}

// addressOf returns where a holder is reached, "" if nobody knows.
func (s store) addressOf(ctx context.Context, holder string) (address string, err error) {
	err = s.db.QueryRow(ctx, `SELECT address FROM syncers WHERE holder = $1`, holder).Scan(&address)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return address, err
}

// ruleRow is what became of a rule.
type ruleRow struct {
	paused      bool
	lastRun     int64
	lastError   string
	done, total int64
}

func (s store) rules(ctx context.Context) (map[string]ruleRow, error) {
	rows, err := s.db.Query(ctx, `SELECT name, paused, last_run, last_error, done, total FROM rules`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string]ruleRow)
	for rows.Next() {
		var name string
		var r ruleRow
		var paused int64
		if err := rows.Scan(&name, &paused, &r.lastRun, &r.lastError, &r.done, &r.total); err != nil {
			return nil, err
		}
		r.paused = paused != 0
		all[name] = r
	}
	return all, rows.Err()
}

func (s store) setRule(ctx context.Context, name string, r ruleRow) error {
	paused := 0
	if r.paused {
		paused = 1
	}
	return s.exec(ctx, "rule "+name, `INSERT INTO rules (name, paused, last_run, last_error, done, total) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, last_run = excluded.last_run, last_error = excluded.last_error,
			done = excluded.done, total = excluded.total`,
		name, paused, r.lastRun, r.lastError, r.done, r.total)
}

// addBytes counts n more bytes of a month and returns how many there are.
func (s store) addBytes(ctx context.Context, rule, month string, n int64) (total int64, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "month " + rule}); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO months (rule, month, bytes) VALUES ($1, $2, $3)
			ON CONFLICT (rule, month) DO UPDATE SET bytes = months.bytes + excluded.bytes`, rule, month, n)
		if err != nil {
			return err
		}
		return tx.QueryRow(`SELECT bytes FROM months WHERE rule = $1 AND month = $2`, rule, month).Scan(&total)
	})
	return total, err
}

// months returns the bytes that each rule has taken in a month.
func (s store) months(ctx context.Context, month string) (map[string]int64, error) {
	rows, err := s.db.Query(ctx, `SELECT rule, bytes FROM months WHERE month = $1`, month)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string]int64)
	for rows.Next() {
		var rule string
		var n int64
		if err := rows.Scan(&rule, &n); err != nil {
			return nil, err
		}
		all[rule] = n
	}
	return all, rows.Err()
}
