package scanner

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/scanner/contents"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the scanner's database.
type store struct{ db *sqldb.DB }

// stateIndex is the state of an index: it is what its images are.
const stateIndex = "index"

// Ranks of images that wait, the first first.
const (
	rankNow   = 0  // somebody wants it scanned again
	rankAsked = 10 // somebody asked about it
	rankTag   = 20 // it has a tag
)

func openStore(ctx context.Context, db *sqldb.DB) (store, error) {
	s := store{db}
	if err := db.Migrate(ctx, migrations, "migrations"); err != nil {
		return s, err
	}
	return s, s.exec(ctx, `UPDATE images SET state = $1 WHERE state = $2`, string(registry.ScanQueued), string(registry.ScanRunning))
}

// exec runs one statement. There is one scanner, and so one lock for all it writes.
func (s store) exec(ctx context.Context, query string, args ...any) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
}

func (s store) write(ctx context.Context, f func(*sqldb.Tx) error) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "scans"}); err != nil {
			return err
		}
		return f(tx)
	})
}

// in returns "$n, $n+1, …" for as many values, and the values as arguments.
func in[T ~string](n int, values []T) (string, []any) {
	var b strings.Builder
	args := make([]any, len(values))
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", n+i)
		args[i] = string(v)
	}
	return b.String(), args
}

// batch is how many values one statement has at most.
const batch = 500

// batches calls f with parts of all.
func batches[T any](all []T, f func([]T) error) error {
	for len(all) > 0 {
		n := min(len(all), batch)
		if err := f(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// job is an image that waits.
type job struct {
	repo     registry.Name
	digest   registry.Digest
	attempts int
}

// sqlListed finds what an index lists, and the indexes among that, and so on.
const sqlListed = `WITH RECURSIVE listed (digest) AS (
		SELECT child FROM children WHERE parent = $1 UNION SELECT c.child FROM listed l JOIN children c ON c.parent = l.digest)
	SELECT digest FROM listed`

// add queues images that are not known, and notes that the others were seen.
func (s store) add(ctx context.Context, jobs []job, rank int, now int64) error {
	return batches(jobs, func(part []job) error {
		return s.write(ctx, func(tx *sqldb.Tx) error {
			for _, j := range part {
				_, err := tx.Exec(`INSERT INTO images (digest, repo, state, reason, rank, queued, attempts, seen, at, db, unknown, low, medium, high, critical, packages, os)
					VALUES ($1, $2, $3, '', $4, $5, 0, $5, 0, '', 0, 0, 0, 0, 0, 0, '')
					ON CONFLICT (digest) DO UPDATE SET seen = excluded.seen`,
					string(j.digest), string(j.repo), string(registry.ScanQueued), rank, now)
				if err != nil {
					return err
				}
				if _, err := tx.Exec(`UPDATE images SET seen = $2 WHERE digest IN (`+sqlListed+`)`, string(j.digest), now); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// unseen returns those of some images that are not known, or were not seen since.
func (s store) unseen(ctx context.Context, jobs []job, since int64) ([]job, error) {
	var out []job
	err := batches(jobs, func(part []job) error {
		digests := make([]registry.Digest, len(part))
		for i, j := range part {
			digests[i] = j.digest
		}
		list, args := in(2, digests)
		rows, err := s.db.Query(ctx, `SELECT digest FROM images WHERE seen >= $1 AND digest IN (`+list+`)`, append([]any{since}, args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		known := make(map[registry.Digest]bool, len(part))
		for rows.Next() {
			var d string
			if err := rows.Scan(&d); err != nil {
				return err
			}
			known[registry.Digest(d)] = true
		}
		for _, j := range part {
			if !known[j.digest] {
				known[j.digest] = true
				out = append(out, j)
			}
		}
		return rows.Err()
	})
	return out, err
}

// waits reports whether an image, or what an index lists, waits no later than by a rank, and
// was seen since.
func (s store) waits(ctx context.Context, d registry.Digest, rank int, since int64) (bool, error) {
	var n int
	err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM images WHERE digest = $1 AND (state = $2 AND rank <= $3 OR state = $4) AND seen >= $5`,
		string(d), string(registry.ScanQueued), rank, stateIndex, since).Scan(&n)
	return n > 0, err
}

// hasten queues an image before others; again says also if it was scanned.
func (s store) hasten(ctx context.Context, j job, rank int, now int64, again bool) error {
	if err := s.add(ctx, []job{j}, rank, now); err != nil {
		return err
	}
	return s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE images SET rank = $2, repo = $3, queued = $4, attempts = 0 WHERE digest = $1 AND state = $5 AND rank > $2`,
			string(j.digest), rank, string(j.repo), now, string(registry.ScanQueued))
		if err != nil || !again {
			return err
		}
		_, err = tx.Exec(`UPDATE images SET state = $2, reason = '', rank = $3, repo = $4, queued = $5, attempts = 0 WHERE digest = $1 AND state <> $6`,
			string(j.digest), string(registry.ScanQueued), rank, string(j.repo), now, string(registry.ScanRunning))
		return err
	})
}

// next takes the image to scan now; not ok if none waits.
func (s store) next(ctx context.Context, now int64) (j job, ok bool, err error) {
	var repo, digest string
	err = s.db.QueryRow(ctx, `SELECT digest, repo, attempts FROM images WHERE state = $1 AND queued <= $2 ORDER BY rank, queued LIMIT 1`,
		string(registry.ScanQueued), now).Scan(&digest, &repo, &j.attempts)
	if errors.Is(err, sql.ErrNoRows) {
		return j, false, nil
	}
	if err != nil {
		return j, false, err
	}
	j.repo, j.digest = registry.Name(repo), registry.Digest(digest)
	return j, true, s.exec(ctx, `UPDATE images SET state = $2 WHERE digest = $1`, digest, string(registry.ScanRunning))
}

// again queues an image for later, after an attempt that failed.
func (s store) again(ctx context.Context, d registry.Digest, reason string, at int64) error {
	return s.exec(ctx, `UPDATE images SET state = $2, reason = $3, queued = $4, attempts = attempts + 1 WHERE digest = $1`,
		string(d), string(registry.ScanQueued), reason, at)
}

// fail gives an image up.
func (s store) fail(ctx context.Context, d registry.Digest, reason string) error {
	return s.exec(ctx, `UPDATE images SET state = $2, reason = $3 WHERE digest = $1`, string(d), string(registry.ScanFailed), reason)
}

// drop forgets an image.
func (s store) drop(ctx context.Context, d registry.Digest) error {
	return s.write(ctx, func(tx *sqldb.Tx) error { return dropImage(tx, string(d)) })
}

func dropImage(tx *sqldb.Tx, digest string) error {
	for _, q := range []string{`DELETE FROM findings WHERE image = $1`, `DELETE FROM children WHERE parent = $1`, `DELETE FROM images WHERE digest = $1`} {
		if _, err := tx.Exec(q, digest); err != nil {
			return err
		}
	}
	return nil
}

// index records the images that an index lists.
func (s store) index(ctx context.Context, j job, children []registry.Digest, now int64) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(`UPDATE images SET state = $2, reason = '', at = $3 WHERE digest = $1`, string(j.digest), stateIndex, now); err != nil {
			return err
		}
		for _, c := range children {
			if _, err := tx.Exec(`INSERT INTO children (parent, child) VALUES ($1, $2) ON CONFLICT (parent, child) DO NOTHING`, string(j.digest), string(c)); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish records what became of an image. image is nil if nothing is known of what
// is in it.
func (s store) finish(ctx context.Context, st registry.ScanStatus, repo registry.Name, image *contents.Image, found []registry.ScanFinding) error {
	var packed []byte
	if image != nil {
		var err error
		if packed, err = pack(image); err != nil {
			return err
		}
	}
	st.Counts = count(found)
	return s.write(ctx, func(tx *sqldb.Tx) error {
		c := st.Counts
		_, err := tx.Exec(`INSERT INTO images (digest, repo, state, reason, rank, queued, attempts, seen, at, db, unknown, low, medium, high, critical, packages, os, found)
			VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
			ON CONFLICT (digest) DO UPDATE SET state = excluded.state, reason = excluded.reason, at = excluded.at, db = excluded.db, attempts = 0,
				unknown = excluded.unknown, low = excluded.low, medium = excluded.medium, high = excluded.high, critical = excluded.critical,
				packages = excluded.packages, os = excluded.os, found = COALESCE(excluded.found, images.found)`,
			string(st.Digest), string(repo), string(st.State), st.Reason, rankTag, st.At, st.DB, c[0], c[1], c[2], c[3], c[4], st.Packages, st.OS, packed)
		if err != nil {
			return err
		}
		return putFindings(tx, st.Digest, found)
	})
}

// putFindings replaces what was found in an image.
func putFindings(tx *sqldb.Tx, d registry.Digest, found []registry.ScanFinding) error {
	if _, err := tx.Exec(`DELETE FROM findings WHERE image = $1`, string(d)); err != nil {
		return err
	}
	for _, f := range found {
		packages, err := json.Marshal(f.Packages)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO findings (image, id, severity, packages) VALUES ($1, $2, $3, $4)`, string(d), f.ID, int(f.Severity), string(packages)); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO vulnerabilities (id, title, description, reference) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET title = excluded.title, description = excluded.description, reference = excluded.reference
			WHERE vulnerabilities.title <> excluded.title OR vulnerabilities.description <> excluded.description OR vulnerabilities.reference <> excluded.reference`,
			f.ID, f.Title, f.Description, f.Reference)
		if err != nil {
			return err
		}
	}
	return nil
}

// pack and unpack are how what was found is kept.
func pack(v any) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(z).Encode(v), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(b []byte, v any) error {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if err := json.NewDecoder(z).Decode(v); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, z)
	return err
}

// layer returns what is known of a layer, nil if nothing is.
func (s store) layer(ctx context.Context, d registry.Digest, now int64) (*contents.Layer, error) {
	var packed []byte
	var used int64
	err := s.db.QueryRow(ctx, `SELECT found, used FROM layers WHERE digest = $1 AND format = $2`, string(d), contents.Format).Scan(&packed, &used)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := new(contents.Layer)
	if err := unpack(packed, l); err != nil {
		return nil, nil //nolint:nilerr // it is read again
	}
	if now-used > day {
		err = s.exec(ctx, `UPDATE layers SET used = $2 WHERE digest = $1`, string(d), now)
	}
	return l, err
}

// day in microseconds.
const day = 24 * 3600 * 1e6

func (s store) putLayer(ctx context.Context, d registry.Digest, l *contents.Layer, now int64) error {
	packed, err := pack(l)
	if err != nil {
		return err
	}
	return s.exec(ctx, `INSERT INTO layers (digest, format, found, used) VALUES ($1, $2, $3, $4)
		ON CONFLICT (digest) DO UPDATE SET format = excluded.format, found = excluded.found, used = excluded.used`,
		string(d), contents.Format, packed, now)
}

// image returns what is in an image, nil if that is not known.
func (s store) image(ctx context.Context, d registry.Digest) (*contents.Image, error) {
	var packed []byte
	err := s.db.QueryRow(ctx, `SELECT found FROM images WHERE digest = $1`, string(d)).Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) || err == nil && packed == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	image := new(contents.Image)
	return image, unpack(packed, image)
}
