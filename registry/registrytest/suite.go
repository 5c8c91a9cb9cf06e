package registrytest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// patience bounds every wait of a suite. Nothing waits that long unless it is
// broken.
const patience = 30 * time.Second

// test is one test of a suite.
type test[S any] struct {
	name string
	run  func(t *testing.T, s S)
}

// runAll runs tests one after the other, each against a new S.
func runAll[S any](t *testing.T, cannot []string, tests []test[S], open func(*testing.T) S) {
	t.Helper()
	for _, name := range cannot {
		if !slices.ContainsFunc(tests, func(c test[S]) bool { return c.name == name }) {
			t.Fatalf("Cannot names %q, and there is no such test", name)
		}
	}
	if len(cannot) > 0 {
		t.Logf("this backend can't do: %s", strings.Join(cannot, ", "))
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			if slices.Contains(cannot, c.name) {
				t.Skip("the backend declares that it can't")
			}
			c.run(t, open(t))
		})
	}
}

// wantErr fails the test unless err is one of want.
func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: got error %v, want one of %v", what, err, want)
}

// wantCanceled fails the test unless err says that the context was cancelled.
func wantCanceled(t *testing.T, what string, err error) {
	t.Helper()
	wantErr(t, what+" with a context that has ended", err, context.Canceled, registry.ErrCanceled)
}

// must fails the test at once if err is not nil.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// eventually calls ok until it is true, for what an implementation does behind
// the call, where there is no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, patience)
		case <-again.C:
		}
	}
}
