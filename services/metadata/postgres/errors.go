package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// SQLSTATE codes, see appendix A of PostgreSQL's manual.
const (
	codeForeignKey     = "23503"
	codeUnique         = "23505"
	codeReadOnly       = "25006"
	codeSerialization  = "40001"
	codeDeadlock       = "40P01"
	codeDiskFull       = "53100"
	codeLockTimeout    = "55P03"
	codeQueryCanceled  = "57014"
	codeCharacter      = "22021"
	classConnection    = "08"
	classAuthorization = "28"
	classCatalog       = "3D" // there is no such database
	classResources     = "53"
	classOperator      = "57" // the server stops, starts, or was told to end the session
	classSystem        = "58"
)

// errRolledBack is the error of a COMMIT that rolled back.
var errRolledBack = errors.New("the database rolled the transaction back instead of committing it")

// code returns the SQLSTATE of err, "" if the server has not sent it.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// isConflict reports that a transaction met another one: both made the same row,
// one removed what the other referred to, or each waited for the other. Operations
// look before they insert, so these are errors of nothing but a race.
func isConflict(err error) bool {
	switch code(err) {
	case codeSerialization, codeDeadlock, codeUnique, codeForeignKey:
		return true
	}
	return false
}

// isBroken reports that the connection is no good: it broke, the server ended
// it, or it leads to a server that has become a standby.
func isBroken(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false // there is none
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fatal(e) || e.Code == codeReadOnly || strings.HasPrefix(e.Code, classConnection)
	}
	return isNetwork(err)
}

// fatal reports whether the server ended the session.
func fatal(e *pgconn.PgError) bool {
	s := e.SeverityUnlocalized
	if s == "" {
		s = e.Severity
	}
	return s == "FATAL" || s == "PANIC"
}

func isNetwork(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// isRefused reports that the server has said no, and lives: nothing was
// committed.
func isRefused(err error) bool {
	if errors.Is(err, errRolledBack) {
		return true
	}
	// A pooler that lost the server says so with an error of its own, which is
	// none of the server's.
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !fatal(e) && !strings.HasPrefix(e.Code, classConnection)
}

func translate(err error) error {
	c := code(err)
	switch {
	case err == nil:
		return nil
	case c == codeDiskFull:
		return registry.ErrStorageFull.Because(err)
	case c == codeCharacter:
		return registry.ErrManifestInvalid.With("a text has a NUL character or is not UTF-8").Because(err)
	case c == codeReadOnly, c == codeLockTimeout, c == codeQueryCanceled, c == codeSerialization, c == codeDeadlock:
		return registry.ErrUnavailable.Because(err)
	case c != "":
		for _, class := range []string{classConnection, classAuthorization, classCatalog, classResources, classOperator, classSystem} {
			if strings.HasPrefix(c, class) {
				return registry.ErrUnavailable.Because(err)
			}
		}
		return err
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	if connecting || isNetwork(err) || errors.Is(err, sqldb.ErrUnavailable) {
		return registry.ErrUnavailable.Because(err)
	}
	return err
}
