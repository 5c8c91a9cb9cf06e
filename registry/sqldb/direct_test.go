package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

var errAgain = errors.New("serialization failure")

// sharing is a dialect whose database is shared, on the fake driver.
var sharing = Dialect{Shared: &Shared{
	Begin: "BEGIN",
	Lock: func(all []Lock, patient bool) Statement {
		s := Statement{Text: "lock"}
		if patient {
			s.Text = "lock patiently"
		}
		for _, l := range all {
			name := strings.Trim(l.Name, "\x00")
			if l.Shared {
				name = "shared " + name
			}
			s.Text += " " + name
		}
		s.Text = strings.ReplaceAll(s.Text, " ", "-")
		return s
	},
	Send: func(ctx context.Context, conn *sql.Conn, all []Statement) error {
		for _, s := range all {
			if strings.HasPrefix(s.Text, "INSERT INTO operations") {
				s.Text = "record"
			}
			if _, err := conn.ExecContext(ctx, s.Text); err != nil {
				return err
			}
		}
		return nil
	},
	Retry:   func(err error) bool { return errors.Is(err, errAgain) },
	Broken:  func(err error) bool { return strings.Contains(err.Error(), "fault in") },
	Refused: func(err error) bool { return errors.Is(err, errAgain) },
}}

func TestDirectRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, sharing, nil)
		tries := 0
		err := db.Write(t.Context(), func(tx *Tx) error {
			if tries++; tries < 3 {
				return errAgain // nothing was sent: nothing is to be undone
			}
			_, err := tx.Exec("a")
			return err
		})
		if err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "BEGIN lock-everything a record COMMIT")

		tries = 0
		err = db.Write(t.Context(), func(tx *Tx) error {
			tries++
			if _, err := tx.Exec("a"); err != nil {
				return err
			}
			return errAgain
		})
		if !errors.Is(err, errAgain) || tries != attempts {
			t.Errorf("got error %v after %d attempts, want %v after %d", err, tries, errAgain, attempts)
		}
		fake.took()
		if err := db.Write(t.Context(), func(tx *Tx) error { tx.Exec("a"); panic("oops") }); err == nil || !strings.Contains(err.Error(), "oops") {
			t.Errorf("got error %v, want the panic", err)
		}
		wantLog(t, fake, "BEGIN lock-everything a ROLLBACK")
		ctx, cancel := context.WithCancel(t.Context())
		err = db.Write(ctx, func(*Tx) error { cancel(); return errAgain })
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errAgain) {
			t.Errorf("got error %v, want Canceled", err)
		}
		db.Close()
		if err := db.Write(t.Context(), exec("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("got error %v, want ErrClosed", err)
		}
	})
}

// What is queued goes along with what comes next, and what only reads leaves no
// row behind.
func TestDirectSendsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, sharing, nil)
		defer db.Close()
		err := db.Write(t.Context(), func(tx *Tx) error {
			err := errors.Join(tx.Lock(Lock{Name: "a", Shared: true}, Lock{Name: "b"}), tx.Queue("INSERT"))
			wantNothing(t, fake)
			if err != nil {
				return err
			}
			if err := tx.Run(Statement{Text: "SELECT"}); err != nil {
				return err
			}
			wantLog(t, fake, "BEGIN lock-shared-everything-shared-a-b INSERT SELECT")
			if err := tx.Lock(Lock{Name: "c"}); err == nil {
				t.Error("a lock behind a statement: no error")
			}
			return tx.Queue("UPDATE")
		})
		if err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "UPDATE record COMMIT")
		if err := db.Write(t.Context(), exec("SELECT")); err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "BEGIN lock-everything SELECT COMMIT")
		if err := db.Write(t.Context(), func(tx *Tx) error { return tx.Queue("UPDATE") }); err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "BEGIN lock-everything UPDATE record COMMIT")
		if err := db.Write(t.Context(), func(*Tx) error { return nil }); err != nil {
			t.Error(err)
		}
		wantNothing(t, fake)
	})
}

// Statements of a group run by their texts, and before whatever asks for something.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, sharing, nil)
		defer db.Close()
		group := func(texts ...string) func(*Tx) error {
			return func(tx *Tx) error {
				return tx.Group(func() error {
					for _, text := range texts {
						var err error
						if strings.HasPrefix(text, "SELECT") {
							err = tx.Run(Statement{Text: text})
						} else {
							err = tx.Queue(text)
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		for texts, want := range map[string]string{
			"a b a c b a":        "a a a b b c",
			"a b a SELECT b a b": "a a b SELECT b b a",
			"":                   "",
		} {
			if err := db.Write(t.Context(), group(strings.Fields(texts)...)); err != nil {
				t.Error(err)
			}
			if want == "" {
				wantNothing(t, fake)
			} else {
				wantLog(t, fake, "BEGIN lock-everything "+want+" record COMMIT")
			}
		}
		oops := errors.New("oops")
		err := db.Write(t.Context(), func(tx *Tx) error {
			return tx.Group(func() error { return errors.Join(tx.Queue("a"), oops) })
		})
		if !errors.Is(err, oops) {
			t.Errorf("got error %v, want %v", err, oops)
		}
		wantNothing(t, fake)
	})
}

// Queries that need not see the same moment go together, and again on another
// connection when one breaks.
func TestReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, sharing, nil)
		defer db.Close()
		if err := db.Reads(t.Context(), Statement{Text: "SELECT"}, Statement{Text: "SELECT"}); err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "SELECT SELECT")
		if err := db.Reads(t.Context()); err != nil {
			t.Error(err)
		}
		wantNothing(t, fake)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Reads(ctx, Statement{Text: "SELECT"}); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want Canceled", err)
		}
	})
}

func wantNothing(t *testing.T, fake *fakeDriver) {
	t.Helper()
	if got := fake.took(); len(got) > 0 {
		t.Errorf("got statements %q, want none", got)
	}
}

func TestDirectLowOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, sharing, nil)
		release := fake.hold("low1")
		low := start(t.Context(), db.WriteLow, exec("low1"), exec("low2"))
		wantLog(t, fake, "BEGIN lock-everything low1")
		release()
		for _, c := range low {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		wantLog(t, fake, "record COMMIT BEGIN lock-everything low2 record COMMIT")
		db.Close()
	})
}
