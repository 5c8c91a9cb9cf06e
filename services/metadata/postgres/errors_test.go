package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

func TestErrors(t *testing.T) {
	plain := errors.New("plain")
	sqlstate := func(code string) error { return &pgconn.PgError{Severity: "ERROR", Code: code} }
	for _, tt := range []struct {
		err  error
		want error // nil: as it is
	}{
		{plain, nil},
		{context.Canceled, nil},
		{registry.ErrInUse, nil},
		{sqlstate("42P01"), nil},
		{sqlstate("XX001"), nil},
		{sqlstate("53100"), registry.ErrStorageFull},
		{sqlstate("53300"), registry.ErrUnavailable},
		{sqlstate("25006"), registry.ErrUnavailable},
		{sqlstate("40001"), registry.ErrUnavailable},
		{sqlstate("55P03"), registry.ErrUnavailable},
		{sqlstate("57014"), registry.ErrUnavailable},
		{sqlstate("57P01"), registry.ErrUnavailable},
		{sqlstate("57P03"), registry.ErrUnavailable},
		{sqlstate("28P01"), registry.ErrUnavailable},
		{sqlstate("22021"), registry.ErrManifestInvalid},
		{io.ErrUnexpectedEOF, registry.ErrUnavailable},
		{&net.OpError{Op: "read", Err: plain}, registry.ErrUnavailable},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("doing something: %w", tt.err)} {
			got := postgres.Translate(err)
			if tt.want == nil && got != err || tt.want != nil && !errors.Is(got, tt.want) {
				t.Errorf("%v: got %v, want %v", err, got, tt.want)
			}
			if !errors.Is(got, tt.err) {
				t.Errorf("%v: the cause is lost in %v", err, got)
			}
		}
	}
	if postgres.Translate(nil) != nil {
		t.Error("no error became one")
	}
}
