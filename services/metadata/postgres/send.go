package postgres

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/berth-registry/berth/registry/sqldb"
)

// send runs statements in one round trip: they are sent together, and the
// database skips those behind one that failed.
func send(ctx context.Context, conn *sql.Conn, all []sqldb.Statement) error {
	return conn.Raw(func(driverConn any) error {
		c := driverConn.(*stdlib.Conn).Conn()
		if repetitive(all) && c.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe {
			return sendRepetitive(ctx, c, all)
		}
		batch := new(pgx.Batch)
		for _, s := range all {
			batch.Queue(s.Text, s.Args...)
		}
		results := c.SendBatch(ctx, batch)
		for _, s := range all {
			if err := receive(results, s); err != nil {
				results.Close() // says the same
				return err
			}
		}
		return results.Close()
	})
}

// receive reads the answer to a statement.
func receive(results pgx.BatchResults, s sqldb.Statement) error {
	if s.Row == nil {
		tag, err := results.Exec()
		if err != nil {
			return err
		}
		return changed(s, tag)
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	return eachRow(rows, s)
}

func changed(s sqldb.Statement, tag pgconn.CommandTag) error {
	if s.Text == "COMMIT" && tag.String() != "COMMIT" {
		return errRolledBack
	}
	if s.Changed != nil {
		s.Changed(tag.RowsAffected())
	}
	return nil
}

func eachRow(rows pgx.Rows, s sqldb.Statement) error {
	defer rows.Close()
	for rows.Next() {
		if err := s.Row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// minRepetitions is how often a statement has to follow itself for it to be worth
// that its text is sent once.
const minRepetitions = 4

// repetitive reports whether a statement follows itself often.
func repetitive(all []sqldb.Statement) bool {
	run := 1
	for i := 1; i < len(all); i++ {
		if all[i].Text != all[i-1].Text {
			run = 1
			continue
		}
		if run++; run >= minRepetitions {
			return true
		}
	}
	return false
}

// sendRepetitive does what send does. Of statements with the same text that follow
// each other only the first is parsed by the database, and some of the first are
// planned: the others use what is prepared without a name, which no other session
// of the database would have, nor the next transaction.
func sendRepetitive(ctx context.Context, c *pgx.Conn, all []sqldb.Statement) error {
	known, err := describe(ctx, c, all)
	if err != nil {
		return err
	}
	batch := new(pgconn.Batch)
	var b pgx.ExtendedQueryBuilder
	for i, s := range all {
		d := known[s.Text]
		if err := b.Build(c.TypeMap(), d, s.Args); err != nil {
			return err
		}
		if i > 0 && s.Text == all[i-1].Text {
			batch.ExecPrepared("", b.ParamValues, b.ParamFormats, b.ResultFormats)
		} else {
			batch.ExecParams(s.Text, b.ParamValues, d.ParamOIDs, b.ParamFormats, b.ResultFormats)
		}
	}
	results := c.PgConn().ExecBatch(ctx, batch)
	for _, s := range all {
		if err := receiveNext(c, results, s); err != nil {
			results.Close() // says the same
			clear(known)    // what they are like may have changed
			return err
		}
	}
	return results.Close()
}

func receiveNext(c *pgx.Conn, results *pgconn.MultiResultReader, s sqldb.Statement) error {
	if !results.NextResult() {
		if err := results.Close(); err != nil {
			return err
		}
		return errRolledBack // not reached: each statement has an answer or there is an error
	}
	if s.Row != nil {
		return eachRow(pgx.RowsFromResultReader(c.TypeMap(), results.ResultReader()), s)
	}
	tag, err := results.ResultReader().Close()
	if err != nil {
		return err
	}
	return changed(s, tag)
}

// descriptions are what the database has told of statements, by text.
type descriptions map[string]*pgconn.StatementDescription

const (
	descriptionsKey = "berth descriptions" // in the data of a connection
	maxDescriptions = 256
)

// describe returns what statements are like. The database is asked for those that
// this connection does not know, in one round trip.
func describe(ctx context.Context, c *pgx.Conn, all []sqldb.Statement) (descriptions, error) {
	data := c.PgConn().CustomData()
	known, ok := data[descriptionsKey].(descriptions)
	if !ok || len(known) > maxDescriptions {
		known = make(descriptions)
		data[descriptionsKey] = known
	}
	var ask []string
	for _, s := range all {
		if _, ok := known[s.Text]; !ok {
			known[s.Text] = nil
			ask = append(ask, s.Text)
		}
	}
	if len(ask) == 0 {
		return known, nil
	}
	err := askFor(ctx, c, ask, known)
	if err != nil {
		clear(known)
	}
	return known, err
}

func askFor(ctx context.Context, c *pgx.Conn, ask []string, known descriptions) error {
	p := c.PgConn().StartPipeline(ctx)
	for _, text := range ask {
		p.SendPrepare("", text, nil)
	}
	err := p.Sync()
	for i := 0; err == nil && i < len(ask); {
		var got any
		if got, err = p.GetResults(); err != nil {
			break
		}
		if d, ok := got.(*pgconn.StatementDescription); ok {
			known[ask[i]] = d
			i++
		}
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}
