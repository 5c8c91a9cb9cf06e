package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("FAULTS_CHILD"); dir != "" {
		childMain(dir)
		return
	}
	os.Exit(m.Run())
}

// run lets a client work, in a process of its own, on a copy of the files in base on
// a disk that may fail, and returns what it knows.
func run(t *testing.T, base string, fault func(int, string) outcome) (*disk, told) {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	d := newDisk(t, root)
	d.fault = fault
	dir, unmount := mount(t, d)
	defer unmount()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), "FAULTS_CHILD="+dir)
	var out, errs bytes.Buffer
	child.Stdout, child.Stderr = &out, &errs
	err := child.Run()
	if ctx.Err() != nil {
		t.Errorf("the client did not end: %s", &errs)
	} else if code := child.ProcessState.ExitCode(); code != 0 && code != 3 && code != 4 {
		t.Errorf("the client: %v\n%s", err, &errs)
	}
	return d, parse(t, out.Bytes())
}

// emptyStore returns the directory of a store that nothing is in.
func emptyStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := openStore(t.Context(), dir, false, nil, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && passes(e.Name()) {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// faults are the ways in which a step fails.
var faults = map[string]struct {
	outcome
	ever bool
}{
	"EIO once":     {outcome: outcome{err: syscall.EIO}},
	"short write":  {outcome: outcome{err: syscall.EIO, half: true}},
	"ENOSPC ever":  {outcome: outcome{err: syscall.ENOSPC, half: true}, ever: true},
	"machine ends": {outcome: outcome{crash: true}},
}

// TestG3G4EveryStepOfAWholeStoreFails lets every call that changes a file of a whole
// store fail in turn, in each way, and looks at what the end of the process and loss
// of power leave. FAULTS_STRIDE takes each so manieth step only.
func TestG3G4EveryStepOfAWholeStoreFails(t *testing.T) {
	stride := 200
	if text := os.Getenv("FAULTS_STRIDE"); text != "" {
		var err error
		if stride, err = strconv.Atoi(text); err != nil || stride < 1 {
			t.Fatalf("FAULTS_STRIDE=%s", text)
		}
	}
	base := emptyStore(t)
	whole, known := run(t, base, nil)
	known.check(t, whole.powerLoss(t))
	known.check(t, whole.root)
	for name, values := range known {
		if strings.HasPrefix(name, "tag/") && len(values) != 1 {
			t.Errorf("without a fault: %s is one of %v", name, values)
		}
	}
	if len(known) < 10 || t.Failed() {
		t.Fatalf("without a fault: %d names are known", len(known))
	}
	steps, of := whole.steps(), map[string]int{}
	for _, s := range steps {
		of[s]++
	}
	t.Logf("%d steps: %v", len(steps), of)
	cases := 0
	for name, f := range faults {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for n := len(name) % stride; n < len(steps); n += stride {
				t.Run(fmt.Sprintf("%d_%s", n, steps[n]), func(t *testing.T) {
					cases++
					d, known := run(t, base, func(step int, _ string) outcome {
						if step == n || f.ever && step > n {
							return f.outcome
						}
						return outcome{}
					})
					d.end()
					known.check(t, d.powerLoss(t))
					known.check(t, d.root)
				})
			}
		})
	}
	t.Logf("%d cases, each looked at after the end of the process and after loss of power", cases)
}
