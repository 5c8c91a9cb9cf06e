//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/allinone/zotroot"
)

// TestAdoptKilled kills with SIGKILL whoever takes over a directory of zot, at
// random moments: berth serve, berth adopt, and berth adopt --finish. After each
// kill fsck must find nothing, and until --finish begins zot's tree must be what it
// was. In the end all is served. ADOPT_KILLS is the number of kills of each of the
// three (30), KILL_SEED the seed of their times and of the content. The run is void
// if fewer than a fifth of the kills of one kind met work that was not done. The times
// of each kind begin with a run that nobody kills, and follow the machine from there:
// they are earlier after a kill that came too late, and later after one that did not.
func TestAdoptKilled(t *testing.T) {
	kills := envInt(t, "ADOPT_KILLS", 30)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d kills of each kind, KILL_SEED=%d", kills, seed)
	a := &adoptLoop{kills: kills, rnd: mrand.New(mrand.NewPCG(seed, 1)), hit: map[string]int{}, killed: map[string]int{}, takes: map[string]time.Duration{}}
	a.calibrate(t, seed)
	for i := uint64(1); a.killed["finish"] < kills || a.killed["adopt"] < kills || a.killed["serve"] < kills; i++ {
		a.once(t, seed+i)
		if t.Failed() {
			return
		}
	}
	for kind, n := range a.killed {
		t.Logf("%s: %d of %d kills met work that was not done", kind, a.hit[kind], n)
		if a.hit[kind]*5 < n {
			t.Errorf("void: too few kills of %s met work", kind)
		}
	}
	t.Logf("%d directories; in the end kills came within %v of serve, %v of adopt and %v of finish",
		a.roots, a.takes["serve"].Round(time.Millisecond), a.takes["adopt"].Round(time.Millisecond), a.takes["finish"].Round(time.Millisecond))
}

// adoptLoop takes over one directory after the other.
type adoptLoop struct {
	kills  int
	rnd    *mrand.Rand
	killed map[string]int           // by kind
	hit    map[string]int           // of these, before the work was done
	takes  map[string]time.Duration // within which each kind is killed
	roots  int
}

// calibrate takes over a directory by serving it, to know how long that takes.
func (a *adoptLoop) calibrate(t *testing.T, seed uint64) {
	t.Helper()
	s, _ := a.root(t, seed)
	p := s.Processes[0]
	began := time.Now()
	p.start(t)
	for !strings.Contains(p.Log(), "repositories were taken over") {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("serving does not take over:\n%s", p.Log())
		}
		time.Sleep(readyPause)
	}
	a.takes["serve"] = time.Since(began)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// root makes a directory of zot's and what serves it.
func (a *adoptLoop) root(t *testing.T, seed uint64) (*System, *zotroot.Root) {
	t.Helper()
	root := zotroot.Make(t, seed, 60)
	s := &System{Topology: Linked}
	port := freePort(t)
	s.Addr, s.Config = loopback(port), filepath.Join(t.TempDir(), "config.json")
	b, err := json.Marshal(map[string]any{
		"storage": map[string]any{"rootDirectory": root.Dir, "subPaths": map[string]any{"/hot": map[string]any{"rootDirectory": root.Hot}}},
		"http":    map[string]any{"address": "127.0.0.1", "port": fmt.Sprint(port)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.add(t, Options{}, "berth", s.Config)
	return s, root
}

func (a *adoptLoop) once(t *testing.T, seed uint64) {
	t.Helper()
	a.roots++
	s, root := a.root(t, seed)
	before := zotroot.Snapshot(t, root.Dir)
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(before, zotroot.Snapshot(t, root.Dir)); diff != "" {
			t.Fatalf("%s: zot's tree is not what it was:\n%s", when, diff)
		}
	}
	if a.takes["adopt"] > 0 { // the first is to know how long it takes
		kinds := []string{"serve", "adopt"}
		if a.roots%2 == 0 {
			slices.Reverse(kinds)
		}
		left := true // and there is nothing to meet where no work is left
		for _, kind := range kinds {
			for n := 0; left && n < 3 && a.killed[kind] < a.kills; n++ {
				left = a.kill(t, s, kind)
				same("after a kill of " + kind)
			}
		}
	}
	a.run(t, s, "adopt")
	same("adopt")
	a.serve(t, s, root)
	same("serving")
	if a.takes["finish"] > 0 {
		for n := 0; n < 4 && a.killed["finish"] < a.kills && a.kill(t, s, "finish"); n++ {
		}
	}
	a.run(t, s, "finish")
	a.fsck(t, s)
	a.serve(t, s, root)
	if _, err := os.Stat(filepath.Join(root.Dir, "library")); !os.IsNotExist(err) {
		t.Errorf("what is left of zot is not removed: %v", err)
	}
}

func (a *adoptLoop) command(t *testing.T, s *System, kind string) *exec.Cmd {
	args := map[string][]string{"serve": {"serve"}, "adopt": {"adopt"}, "finish": {"adopt", "--finish"}}[kind]
	return exec.Command(Program(t, "berth"), append(args, s.Config)...)
}

// run runs a command to its end. Directories have repositories with problems.
func (a *adoptLoop) run(t *testing.T, s *System, kind string) {
	t.Helper()
	began := time.Now()
	out, err := a.command(t, s, kind).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Fatalf("%s: %v\n%s", kind, err, out)
	}
	if a.takes[kind] == 0 {
		a.takes[kind] = time.Since(began)
	}
}

// kill starts a command and kills it, and reports whether work is left.
func (a *adoptLoop) kill(t *testing.T, s *System, kind string) (left bool) {
	t.Helper()
	takes := a.takes[kind]
	cmd := a.command(t, s, kind)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
			t.Fatalf("%s: %v\n%s", kind, err, out.String())
		}
		a.takes[kind] = takes * 4 / 5
	case <-time.After(takes/20 + time.Duration(a.rnd.Int64N(int64(takes)))):
		err := cmd.Process.Kill()
		<-done
		if errors.Is(err, os.ErrProcessDone) {
			break // it has just ended by itself
		}
		if err != nil {
			t.Fatal(err)
		}
		a.killed[kind]++
		if left = a.waits(t, s, kind); left {
			a.hit[kind]++
			a.takes[kind] = takes * 6 / 5
		} else {
			a.takes[kind] = takes * 4 / 5
		}
	}
	a.fsck(t, s)
	return left
}

// waits reports whether there is work left.
func (a *adoptLoop) waits(t *testing.T, s *System, kind string) bool {
	t.Helper()
	out, err := exec.Command(Program(t, "berth"), "status", "--json", s.Config).Output()
	var report struct {
		ForeignBlobs int
		States       map[string]int
	}
	if json.Unmarshal(out, &report) != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	if kind == "finish" {
		return report.ForeignBlobs > 0 || report.States["finishes"] > 0 || report.States["taken"] > 2
	}
	return report.States["waits"]+report.States["begun"] > 0
}

func (a *adoptLoop) fsck(t *testing.T, s *System) {
	t.Helper()
	out, err := exec.Command(Program(t, "berth"), "fsck", "--read-data", s.Config).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "there is no store") {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
}

// serve serves the directory and pulls all that there is.
func (a *adoptLoop) serve(t *testing.T, s *System, root *zotroot.Root) {
	t.Helper()
	p := s.Processes[0]
	p.start(t)
	p.waitReady(t)
	root.Check(t, s.URL())
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
