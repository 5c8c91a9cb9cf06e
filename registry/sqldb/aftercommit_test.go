package sqldb

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// What a database does behind its commits may fail, too.
func TestAfterCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []error
		d := collecting
		d.Fatal = func(err error) bool { return strings.Contains(err.Error(), "fault in copy") }
		d.AfterCommit = func(query func(string) Row) error {
			var n int
			return errors.Join(query("look").Scan(&n), query("copy").Scan(&n))
		}
		db, fake := openFake(t, d, func(err error) { got = append(got, err) })
		for _, fail := range []string{"", "look"} { // the latter is not fatal
			fake.failOn(fail)
			if err := db.Write(t.Context(), exec("a")); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			wantLog(t, fake, "BEGIN a COMMIT look copy")
		}
		db.Write(t.Context(), func(*Tx) error { return errors.New("no") })
		synctest.Wait()
		wantLog(t, fake, "BEGIN ROLLBACK")

		fake.failOn("copy")
		if err := db.Write(t.Context(), exec("b")); err != nil {
			t.Errorf("the write was committed: %v", err)
		}
		synctest.Wait()
		if len(got) != 1 || db.Failed() == nil {
			t.Errorf("fatal was called with %v and Failed is %v, want one error in both", got, db.Failed())
		}
		if err := db.Write(t.Context(), exec("c")); err == nil {
			t.Error("Write after a fatal error: no error")
		}
		before := fake.conns()
		db.Close()
		if fake.conns() != before || before == 0 {
			t.Errorf("after a fatal error Close left %d of %d connections, want all", fake.conns(), before)
		}
		db.closePools() // else left to the end of the process
	})
}
