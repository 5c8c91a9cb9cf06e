package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var collecting = Dialect{Name: "fake", Begin: "BEGIN", InProcess: true}

// start runs writes in goroutines, one after the other in the queue, and
// returns where their errors come.
func start(ctx context.Context, write func(context.Context, func(*Tx) error) error, fns ...func(*Tx) error) []chan error {
	var results []chan error
	for _, fn := range fns {
		c := make(chan error, 1)
		go func() { c <- write(ctx, fn) }()
		synctest.Wait()
		results = append(results, c)
	}
	return results
}

// collect runs f in a bubble, with a collecting database in which the write
// "first" is being committed until release is called.
func collect(t *testing.T, f func(t *testing.T, db *DB, fake *fakeDriver, release func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, collecting, nil)
		release := fake.hold("COMMIT")
		first := start(t.Context(), db.Write, exec("first"))[0]
		f(t, db, fake, release)
		if err := <-first; err != nil {
			t.Errorf("first: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func wantLog(t *testing.T, fake *fakeDriver, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Fields(want), fields(fake.took())); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// fields writes statements as words.
func fields(log []string) []string {
	var all []string
	for _, s := range log {
		all = append(all, strings.ReplaceAll(s, " ", "-"))
	}
	return all
}

func TestOldest(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, _ *fakeDriver, release func()) {
		time.Sleep(30 * time.Second)
		if got := db.Oldest(); got != 30*time.Second {
			t.Errorf("the transaction under way has taken %v, want 30 s", got)
		}
		release()
		synctest.Wait()
		if got := db.Oldest(); got != 0 {
			t.Errorf("no transaction is under way, and it has taken %v", got)
		}
	})
}

func TestBatchIsWhatQueuedDuringACommit(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		rest := start(t.Context(), db.Write, exec("a"), exec("b"), exec("c"))
		wantLog(t, fake, "BEGIN first COMMIT")
		release()
		for _, c := range rest {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		wantLog(t, fake, `BEGIN SAVEPOINT-op a RELEASE-op SAVEPOINT-op b RELEASE-op SAVEPOINT-op c RELEASE-op COMMIT`)
		if err := db.Write(t.Context(), exec("alone")); err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "BEGIN alone COMMIT")
	})
}

func TestBatchHasALimit(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		var ops []func(*Tx) error
		for range maxBatch + 10 {
			ops = append(ops, exec("x"))
		}
		all := start(t.Context(), db.Write, ops...)
		fake.took()
		release()
		for _, c := range all {
			<-c
		}
		var sizes []int
		for _, s := range fake.took() {
			switch s {
			case "BEGIN":
				sizes = append(sizes, 0)
			case "x":
				sizes[len(sizes)-1]++
			}
		}
		if diff := cmp.Diff([]int{maxBatch, 10}, sizes); diff != "" {
			t.Errorf("sizes of transactions (-want +got):\n%s", diff)
		}
	})
}

func TestFailureUndoesOnlyItself(t *testing.T) {
	mine := errors.New("mine")
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		rest := start(t.Context(), db.Write, exec("a"),
			func(tx *Tx) error { tx.Exec("bad"); return mine },
			func(tx *Tx) error { panic("oops") },
			exec("d"))
		fake.took()
		release()
		if err := errors.Join(<-rest[0], <-rest[3]); err != nil {
			t.Errorf("the operations beside the failing ones: %v", err)
		}
		if err := <-rest[1]; err != mine {
			t.Errorf("failing operation: got %v, want its own error", err)
		}
		var p *PanicError
		if err := <-rest[2]; !errors.As(err, &p) || p.Value != "oops" || !strings.Contains(err.Error(), "collector_test.go") {
			t.Errorf("panicking operation: got %v, want a PanicError with its stack", err)
		}
		wantLog(t, fake, `BEGIN SAVEPOINT-op a RELEASE-op
			SAVEPOINT-op bad ROLLBACK-TO-op RELEASE-op
			SAVEPOINT-op ROLLBACK-TO-op RELEASE-op
			SAVEPOINT-op d RELEASE-op COMMIT`)
		if err := db.Write(t.Context(), func(*Tx) error { return mine }); err != mine {
			t.Errorf("failing alone: got %v, want its own error", err)
		}
		wantLog(t, fake, "BEGIN ROLLBACK")
	})
}

func TestFailureThatEndsTheTransaction(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		rest := start(t.Context(), db.Write, exec("a"), exec("full"), exec("never"))
		fake.took()
		fake.failOn("full", "ROLLBACK TO op")
		release()
		for i, c := range rest {
			if err := <-c; err == nil || !strings.Contains(err.Error(), "fault in full") {
				t.Errorf("operation %d: got error %v, want one that names the fault", i, err)
			}
		}
		wantLog(t, fake, "BEGIN SAVEPOINT-op a RELEASE-op SAVEPOINT-op full ROLLBACK-TO-op ROLLBACK")
	})
}

func TestCommitFails(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		mine := errors.New("mine")
		ended := 0
		rest := start(t.Context(), db.Write, func(tx *Tx) error {
			tx.Bracket(func() {}, func() { ended++ })
			return nil
		}, func(*Tx) error { return mine })
		release()
		fake.failOn("COMMIT") // after the first one
		synctest.Wait()
		if err := <-rest[0]; err == nil || !strings.Contains(err.Error(), "fault in COMMIT") {
			t.Errorf("Write: got error %v, want that of COMMIT", err)
		}
		if err := <-rest[1]; err != mine {
			t.Errorf("Write: got error %v, want its own", err)
		}
		if ended != 1 {
			t.Errorf("the bracket was ended %d times, want once", ended)
		}
		fake.failOn()
		if err := db.Write(t.Context(), exec("again")); err != nil {
			t.Errorf("Write after a failed COMMIT: %v", err)
		}
	})
}

func TestFatalError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []error
		d := collecting
		d.Fatal = func(err error) bool { return strings.Contains(err.Error(), "fault in COMMIT") }
		db, fake := openFake(t, d, func(err error) { got = append(got, err) })
		fake.failOn("COMMIT")
		err := db.Write(t.Context(), exec("a"))
		if err == nil {
			t.Error("Write: no error")
		}
		fake.failOn()
		if err := db.Write(t.Context(), exec("b")); err == nil {
			t.Error("Write after a fatal error: no error")
		}
		if len(got) != 1 || !errors.Is(got[0], err) {
			t.Errorf("fatal was called with %v, want once with %v", got, err)
		}
		if db.Failed() == nil {
			t.Error("Failed: nil")
		}
		wantLog(t, fake, "BEGIN a COMMIT ROLLBACK")
		db.Close()
		db.closePools() // which Close leaves to the end of the process
	})
}

func TestContextEnds(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		ctx, cancel := context.WithCancel(t.Context())
		queued := start(ctx, db.Write, exec("left"))
		stays := start(t.Context(), db.Write, exec("stays"))
		cancel()
		if err := <-queued[0]; !errors.Is(err, context.Canceled) {
			t.Errorf("Write while queued: got error %v, want Canceled", err)
		}
		fake.took()
		release()
		if err := <-stays[0]; err != nil {
			t.Error(err)
		}
		wantLog(t, fake, "BEGIN SAVEPOINT-op stays RELEASE-op COMMIT")

		// While it is being committed.
		release = fake.hold("COMMIT")
		ctx, cancel = context.WithCancel(t.Context())
		late := start(ctx, db.Write, exec("late"))
		cancel()
		if err := <-late[0]; !errors.Is(err, context.Canceled) {
			t.Errorf("Write during COMMIT: got error %v, want Canceled", err)
		}
		release()
		synctest.Wait()
		wantLog(t, fake, "BEGIN late COMMIT")

		// Before it began.
		if err := db.Write(ctx, exec("never")); !errors.Is(err, context.Canceled) {
			t.Errorf("Write with an ended context: got error %v, want Canceled", err)
		}
		if got := fake.took(); len(got) != 0 {
			t.Errorf("got statements %q, want none", got)
		}
	})
}

// A caller whose context ends may reuse what its operation reads. Without a
// bubble: Write waits for a mutex here.
func TestContextEndsWhileTheOperationRuns(t *testing.T) {
	db, fake := openFake(t, collecting, nil)
	defer db.Close()
	release := fake.hold("slow")
	ctx, cancel := context.WithCancel(t.Context())
	started, result := make(chan struct{}), make(chan error)
	buffer := []byte("read by the operation")
	sum := 0
	go func() {
		result <- db.Write(ctx, func(tx *Tx) error {
			close(started)
			_, err := tx.Exec("slow")
			for _, b := range buffer {
				sum += int(b)
			}
			return err
		})
	}()
	<-started
	cancel()
	select {
	case err := <-result:
		t.Errorf("Write returned while its operation was running: %v", err)
	case <-time.After(20 * time.Millisecond): // it would have returned at once
	}
	release()
	if err := <-result; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	clear(buffer) // the race detector looks on
	if sum == 0 {
		t.Error("the operation has not ended")
	}
}

func TestLowPriorityTakesTurns(t *testing.T) {
	collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
		low := start(t.Context(), db.WriteLow, exec("low1"), exec("low2"), exec("low3"))
		high := start(t.Context(), db.Write, exec("a"), exec("b"))
		fake.took()
		hold := fake.hold("low1")
		release()
		synctest.Wait()
		// It comes while low1 runs, and is in the very next transaction.
		high = append(high, start(t.Context(), db.Write, exec("c"))...)
		hold()
		for _, c := range append(low, high...) {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		wantLog(t, fake, `BEGIN low1 COMMIT
			BEGIN SAVEPOINT-op a RELEASE-op SAVEPOINT-op b RELEASE-op SAVEPOINT-op c RELEASE-op COMMIT
			BEGIN low2 COMMIT BEGIN low3 COMMIT`)
	})
}

func TestBracketSurroundsTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, collecting, nil)
		note := func(s string) func() { return func() { fake.run(s) } }
		err := db.Write(t.Context(), func(tx *Tx) error {
			tx.Bracket(note("begin"), note("end"))
			_, err := tx.Exec("a")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		wantLog(t, fake, "BEGIN a begin COMMIT end")
		db.Write(t.Context(), func(tx *Tx) error {
			tx.Bracket(note("begin"), note("end"))
			return errors.New("no")
		})
		wantLog(t, fake, "BEGIN ROLLBACK")
		db.Close()
	})
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, fake := openFake(t, collecting, nil)
		release := fake.hold("COMMIT")
		all := start(t.Context(), db.Write, exec("first"), exec("queued"))
		all = append(all, start(t.Context(), db.WriteLow, exec("low"))...)
		closed := make(chan error)
		go func() { closed <- db.Close() }()
		synctest.Wait()
		if err := db.Write(t.Context(), exec("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("Write: got error %v, want ErrClosed", err)
		}
		release()
		for _, c := range all {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

func TestTranslate(t *testing.T) {
	full := errors.New("full")
	d := collecting
	d.Translate = func(err error) error { return fmt.Errorf("%w: %w", full, err) }
	db, fake := openFake(t, d, nil)
	defer db.Close()
	fake.failOn("a")
	if err := db.Write(t.Context(), exec("a")); !errors.Is(err, full) {
		t.Errorf("got error %v, want the translated one", err)
	}
	if err := db.Write(t.Context(), exec("b")); err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// TestUnless leaves out what an earlier statement has made needless, and nothing else.
func TestUnless(t *testing.T) {
	for _, done := range []bool{false, true} {
		collect(t, func(t *testing.T, db *DB, fake *fakeDriver, release func()) {
			told := false
			c := start(t.Context(), db.Write, func(tx *Tx) error {
				return tx.Run(
					Statement{Text: "a", Changed: func(int64) { told = done }},
					Statement{Text: "b", Unless: &told},
					Statement{Text: "c", Unless: &told, Row: func(func(...any) error) error { return nil }},
					Statement{Text: "d", Unless: new(bool)},
				)
			})[0]
			fake.took()
			release()
			if err := <-c; err != nil {
				t.Fatal(err)
			}
			wantLog(t, fake, map[bool]string{false: "BEGIN a b c d COMMIT", true: "BEGIN a d COMMIT"}[done])
		})
	}
}
