package registrytest

import (
	"runtime"
	"strings"
	"testing"
)

// watchGoroutines returns a function that fails a test if goroutines are
// running that were not there before.
func watchGoroutines() func(*testing.T) {
	before := goroutines()
	return func(t *testing.T) {
		t.Helper()
		if t.Failed() {
			return // a test that gave up may well have left something
		}
		t.Run("NoGoroutineIsLeft", func(t *testing.T) {
			var left []string
			defer func() {
				for _, stack := range left {
					t.Logf("goroutine left:\n%s", stack)
				}
			}()
			eventually(t, "the end of all goroutines", func() bool {
				left = nil
				for id, stack := range goroutines() {
					if _, ok := before[id]; !ok && !strings.Contains(stack, "registrytest.goroutines") {
						left = append(left, stack)
					}
				}
				return len(left) == 0
			})
		})
	}
}

// goroutines returns the stacks of all goroutines by their ids.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		all[id] = stack
	}
	return all
}
