package sqldb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestDirectRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := errors.New("serialization failure")
		db, fake := openFake(t, Dialect{Retry: func(err error) bool { return errors.Is(err, again) }}, nil)
		tries := 0
		err := db.Write(t.Context(), func(tx *Tx) error {
			if tries++; tries < 3 {
				return again
			}
			_, err := tx.Exec("a")
			return err
		})
		if err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "begin rollback begin rollback begin a commit")

		if err := db.Write(t.Context(), func(*Tx) error { return again }); !errors.Is(err, again) {
			t.Errorf("got error %v, want %v", err, again)
		}
		if got := len(fake.took()); got != 2*attempts {
			t.Errorf("got %d statements, want %d", got, 2*attempts)
		}
		if err := db.Write(t.Context(), func(*Tx) error { panic("oops") }); err == nil || !strings.Contains(err.Error(), "oops") {
			t.Errorf("got error %v, want the panic", err)
		}
		wantLog(t, fake, "begin rollback")
		ctx, cancel := context.WithCancel(t.Context())
		err = db.Write(ctx, func(*Tx) error { cancel(); return again })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want Canceled", err)
		}
		db.Close()
		if err := db.Write(t.Context(), exec("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("got error %v, want ErrClosed", err)
		}
	})
}

func TestDirectLowOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, Dialect{}, nil)
		release := fake.hold("low1")
		low := start(t.Context(), db.WriteLow, exec("low1"), exec("low2"))
		wantLog(t, fake, "begin low1")
		release()
		for _, c := range low {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		wantLog(t, fake, "commit begin low2 commit")
		db.Close()
	})
}
