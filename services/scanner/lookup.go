package scanner

import (
	"context"
	"encoding/json"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// staleImage is an image that was looked up in another database.
type staleImage struct {
	digest registry.Digest
	repo   registry.Name
	image  *contents.Image // nil if it can't be read
}

// stale returns some images that were looked up in another version than db.
func (s store) stale(ctx context.Context, db string, limit int) ([]staleImage, error) {
	rows, err := s.db.Query(ctx, `SELECT digest, repo, found FROM images WHERE state = $1 AND db <> $2 AND found IS NOT NULL LIMIT $3`, string(registry.ScanDone), db, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []staleImage
	for rows.Next() {
		var digest, repo string
		var packed []byte
		if err := rows.Scan(&digest, &repo, &packed); err != nil {
			return nil, err
		}
		x := staleImage{digest: registry.Digest(digest), repo: registry.Name(repo)}
		image := new(contents.Image)
		if unpack(packed, image) == nil {
			x.image = image
		}
		all = append(all, x)
	}
	return all, rows.Err()
}

// outdated is the version of the database of images that are to be looked up again in the
// same. It is one: until then what they have is known.
const outdated = "outdated"

// outdate has all images that were looked up count as looked up in an older database.
func (s store) outdate(ctx context.Context) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE images SET db = $2 WHERE state = $1 AND db <> '' AND found IS NOT NULL`, string(registry.ScanDone), outdated)
		return err
	})
}

// renewed is an image that was looked up again.
type renewed struct {
	digest registry.Digest
	found  []registry.ScanFinding
}

// renew records what several images have by a newer database.
func (s store) renew(ctx context.Context, all []renewed, db string, now int64) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		for _, x := range all {
			c := count(x.found)
			_, err := tx.Exec(`UPDATE images SET db = $2, at = $3, unknown = $4, low = $5, medium = $6, high = $7, critical = $8 WHERE digest = $1`,
				string(x.digest), db, now, c[0], c[1], c[2], c[3], c[4])
			if err != nil {
				return err
			}
			if err := putFindings(tx, x.digest, x.found); err != nil {
				return err
			}
		}
		return nil
	})
}

const statusColumns = `digest, state, reason, at, db, unknown, low, medium, high, critical, packages, os`

func scanRow(row interface{ Scan(...any) error }) (st registry.ScanStatus, err error) {
	var digest, state string
	c := &st.Counts
	err = row.Scan(&digest, &state, &st.Reason, &st.At, &st.DB, &c[0], &c[1], &c[2], &c[3], &c[4], &st.Packages, &st.OS)
	st.Digest, st.State = registry.Digest(digest), registry.ScanState(state)
	return st, err
}

// statuses returns what became of some images, by digest. An index has the state of
// its images together.
func (s store) statuses(ctx context.Context, images []registry.Digest) (map[registry.Digest]registry.ScanStatus, error) {
	all := make(map[registry.Digest]registry.ScanStatus, len(images))
	var indexes []registry.Digest
	err := batches(images, func(part []registry.Digest) error {
		list, args := in(1, part)
		rows, err := s.db.Query(ctx, `SELECT `+statusColumns+` FROM images WHERE digest IN (`+list+`)`, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			st, err := scanRow(rows)
			if err != nil {
				return err
			}
			all[st.Digest] = st
			if st.State == stateIndex {
				indexes = append(indexes, st.Digest)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	for _, d := range indexes {
		if all[d], err = s.indexStatus(ctx, d); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// indexStatus returns the status of an index: done when all its images are that can
// be, and of a database if all of these were looked up in one.
func (s store) indexStatus(ctx context.Context, d registry.Digest) (registry.ScanStatus, error) {
	st := registry.ScanStatus{Digest: d, State: registry.ScanUnsupported, Reason: "none of its images can be scanned"}
	rows, err := s.db.Query(ctx, `SELECT `+statusColumns+` FROM images WHERE digest IN (`+sqlListed+`) AND state <> $2`, string(d), stateIndex)
	if err != nil {
		return st, err
	}
	defer rows.Close()
	order := map[registry.ScanState]int{registry.ScanUnsupported: 0, registry.ScanDone: 1, registry.ScanFailed: 2, registry.ScanQueued: 3, registry.ScanRunning: 4}
	unknown := false // of an image at least
	for rows.Next() {
		c, err := scanRow(rows)
		if err != nil {
			return st, err
		}
		unknown = unknown || c.State != registry.ScanUnsupported && c.DB == ""
		if order[c.State] > order[st.State] {
			st.State, st.Reason = c.State, c.Reason
		}
		if st.At = max(st.At, c.At); c.DB != "" {
			st.DB = c.DB
		}
		if st.Packages += c.Packages; st.OS == "" {
			st.OS = c.OS
		}
	}
	if err := rows.Err(); err != nil {
		return st, err
	}
	if unknown {
		st.DB = ""
	}
	found, err := s.findings(ctx, []registry.Digest{d})
	for _, f := range found {
		st.Counts[f.Severity]++
	}
	return st, err
}

// findings returns what was found in some images, each ID once. Those of an index are
// those of its images.
func (s store) findings(ctx context.Context, images []registry.Digest) ([]registry.ScanFinding, error) {
	var each [][]registry.ScanFinding
	err := batches(images, func(part []registry.Digest) error {
		list, args := in(1, part)
		rows, err := s.db.Query(ctx, `WITH RECURSIVE listed (digest) AS (
				SELECT digest FROM images WHERE digest IN (`+list+`) UNION SELECT c.child FROM listed l JOIN children c ON c.parent = l.digest)
			SELECT f.id, f.severity, f.packages, v.title, v.description, v.reference
			FROM findings f JOIN vulnerabilities v ON v.id = f.id
			WHERE f.image IN (SELECT digest FROM listed) ORDER BY f.image, f.id`, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var some []registry.ScanFinding
		for rows.Next() {
			var f registry.ScanFinding
			var severity int64
			var packages string
			if err := rows.Scan(&f.ID, &severity, &packages, &f.Title, &f.Description, &f.Reference); err != nil {
				return err
			}
			f.Severity = registry.Severity(min(max(severity, 0), int64(registry.SeverityCritical))) //nolint:gosec // 0 to 4
			if err := json.Unmarshal([]byte(packages), &f.Packages); err != nil {
				return err
			}
			some = append(some, f)
		}
		each = append(each, some)
		return rows.Err()
	})
	return registry.MergeFindings(each...), err
}

// affected lists images that have a vulnerability, and the indexes that list them.
func (s store) affected(ctx context.Context, id string, after registry.Digest, limit int) ([]registry.Digest, error) {
	rows, err := s.db.Query(ctx, `WITH RECURSIVE above (digest) AS (
			SELECT c.parent FROM findings f JOIN children c ON c.child = f.image WHERE f.id = $1
			UNION SELECT c.parent FROM above a JOIN children c ON c.child = a.digest)
		SELECT image FROM (
			SELECT image FROM findings WHERE id = $1 AND image > $2
			UNION SELECT digest FROM above WHERE digest > $2) x
		ORDER BY image LIMIT $3`, id, string(after), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []registry.Digest
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			return nil, err
		}
		all = append(all, registry.Digest(d))
	}
	return all, rows.Err()
}

// affectedOf returns those of some images that have a vulnerability.
func (s store) affectedOf(ctx context.Context, id string, images []registry.Digest) (map[registry.Digest]bool, error) {
	has := make(map[registry.Digest]bool)
	err := batches(images, func(part []registry.Digest) error {
		list, args := in(2, part)
		rows, err := s.db.Query(ctx, `WITH RECURSIVE listed (root, digest) AS (
				SELECT digest, digest FROM images WHERE digest IN (`+list+`) UNION SELECT l.root, c.child FROM listed l JOIN children c ON c.parent = l.digest)
			SELECT DISTINCT l.root FROM listed l JOIN findings f ON f.image = l.digest WHERE f.id = $1`, append([]any{id}, args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d string
			if err := rows.Scan(&d); err != nil {
				return err
			}
			has[registry.Digest(d)] = true
		}
		return rows.Err()
	})
	return has, err
}

// counts returns how many images are in each state, and how many are done by another
// database than db.
func (s store) counts(ctx context.Context, db string) (states map[string]int64, stale int64, err error) {
	states = make(map[string]int64)
	rows, err := s.db.Query(ctx, `SELECT state, COUNT(*), CAST(SUM(CASE WHEN db <> $1 THEN 1 ELSE 0 END) AS BIGINT) FROM images GROUP BY state`, db)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var state string
		var n, other int64
		if err := rows.Scan(&state, &n, &other); err != nil {
			return nil, 0, err
		}
		if states[state] = n; state == string(registry.ScanDone) {
			stale = other
		}
	}
	return states, stale, rows.Err()
}

// prune forgets images that were not seen for long, and layers that were not used.
func (s store) prune(ctx context.Context, seen, used int64) error {
	for {
		rows, err := s.db.Query(ctx, `SELECT digest FROM images WHERE seen < $1 ORDER BY seen LIMIT 100`, seen)
		if err != nil {
			return err
		}
		var gone []string
		for rows.Next() {
			var d string
			if err := rows.Scan(&d); err != nil {
				rows.Close()
				return err
			}
			gone = append(gone, d)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		if len(gone) == 0 {
			return s.exec(ctx, `DELETE FROM layers WHERE used < $1`, used)
		}
		err = s.write(ctx, func(tx *sqldb.Tx) error {
			for _, d := range gone {
				if err := dropImage(tx, d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
