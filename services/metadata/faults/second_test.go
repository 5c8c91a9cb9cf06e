package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// pairsOf returns how many pairs of faults are tried, and where their choice begins:
// G6_PAIRS (60) and G6_SEED.
func pairsOf(t *testing.T) (pairs int, seed uint64) {
	t.Helper()
	pairs, seed = 60, uint64(time.Now().UnixNano())
	var err error
	if s := os.Getenv("G6_PAIRS"); s != "" {
		pairs, err = strconv.Atoi(s)
	}
	if s := os.Getenv("G6_SEED"); s != "" && err == nil {
		seed, err = strconv.ParseUint(s, 10, 64)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pairs, G6_SEED=%d", pairs, seed)
	return pairs, seed
}

// restarted returns a machine with the disk of m, on which the process has ended, or on
// which power was lost if m had stopped: then a part of what was not synced is left. It
// returns the directory of the new machine's files, too.
func restarted(t *testing.T, m *machine, dir string, part int) (*machine, string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), ".berth")
	if m.stopped() {
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		m.powerLoss(t, to, part, 2)
		return newMachine(t, to), to
	}
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	removeTraces(t, to)
	next := newMachine(t, to)
	m.mu.Lock()
	defer m.mu.Unlock()
	next.disks = make(map[string]*platter)
	for name, d := range m.disks {
		next.disks[name] = &platter{durable: bytes.Clone(d.durable), writes: slices.Clone(d.writes), deleted: d.deleted}
	}
	return next, to
}

func (m *machine) stopped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// again is the next start of a process: what was left is recovered, migrations and
// garbage collection go on where they were, and there is a push and a copy of all.
func (c *clients) again(t *testing.T, m *machine, dir string) {
	t.Helper()
	db, err := open(t, m, dir)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	defer db.Close()
	catalog, err := metadata.Open(t.Context(), db, c.blobs, metadata.Options{Now: c.now, Retention: policies(t)}, quiet)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	defer catalog.Close()
	c.catalog = catalog
	c.collect()
	c.put("again", manifest(c.link(t, "again", "five"), nil, nil, "latest"))
	c.copyOut(t)
}

// checkAll looks at what the end of the process, and losses of power, leave of the files
// of a machine below root.
func checkAll(t *testing.T, m *machine, c *clients, root string) {
	t.Helper()
	for part := range 3 {
		lost := filepath.Join(t.TempDir(), fmt.Sprint(part))
		if err := os.MkdirAll(filepath.Join(lost, ".berth"), 0o700); err != nil {
			t.Fatal(err)
		}
		m.powerLoss(t, filepath.Join(lost, ".berth"), part, 2)
		checkLeft(t, c, lost)
	}
	checkLeft(t, c, root)
}

// TestG6SecondFault lets something fail while the catalog works, and something else
// while what is left is recovered: the log of the database, a migration, garbage
// collection. Both are chosen at random, G6_PAIRS (60) times.
func TestG6SecondFault(t *testing.T) {
	bases := map[string]string{"used": usedStore(t), "empty": emptyStore(t), "old": oldStore(t)}
	stores, kinds := slices.Sorted(maps.Keys(bases)), slices.Sorted(maps.Keys(faults))
	steps, recovery := map[string]int{}, map[string]int{}
	for store, base := range bases {
		m, c, root := run(t, base, nil)
		next, dir := restarted(t, m, filepath.Join(root, ".berth"), 0)
		c.again(t, next, dir)
		if len(c.errs) > 0 {
			t.Fatalf("%s: without a fault: %v", store, c)
		}
		checkAll(t, next, c, filepath.Dir(dir))
		steps[store], recovery[store] = m.steps(), next.steps()
	}
	pairs, seed := pairsOf(t)
	met := 0
	for i := range pairs {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		store := stores[rnd.IntN(len(stores))]
		first, second := kinds[rnd.IntN(len(kinds))], kinds[rnd.IntN(len(kinds))]
		at, then, part := rnd.IntN(steps[store]), rnd.IntN(recovery[store]), rnd.IntN(3)
		name := fmt.Sprintf("%d_%s_%s_at_%d_then_%s_at_%d", i, store, first, at, second, then)
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			m, c, root := run(t, bases[store], faults[first](at))
			next, dir := restarted(t, m, filepath.Join(root, ".berth"), part)
			next.fault = faults[second](then)
			c.again(t, next, dir)
			if next.steps() > then {
				met++
			}
			checkAll(t, next, c, filepath.Dir(dir))
		})
	}
	t.Logf("%d pairs, of which the second fault was met in %d", pairs, met)
	if met*2 < pairs {
		t.Error("void: too few second faults were met")
	}
}

// TestG6SecondFaultOfARestore lets a restore fail, and once more when it goes on: the
// third run ends it, and all is as it was in the store that was backed up. Until it has
// ended nobody takes the catalog for a whole one.
func TestG6SecondFaultOfARestore(t *testing.T) {
	whole, c, root := run(t, usedStore(t), nil)
	if len(c.errs) > 0 || whole.stopped() {
		t.Fatalf("without a fault: %v", c)
	}
	from, err := sqlite.Open(t.Context(), root, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	restore := func(t *testing.T, m *machine, dir string) error {
		t.Helper()
		to, err := open(t, m, dir)
		if err != nil {
			return err
		}
		defer to.Close()
		same := func(_ context.Context, s registry.Stored) (registry.Stored, error) {
			s.Pool = ""
			return s, nil
		}
		move := &metadata.Move{
			From: from, To: to, Source: "a backup", Workers: 2, KeepDamaged: true,
			Pools:    map[registry.Pool]func(context.Context, registry.Stored) (registry.Stored, error){"": same},
			Found:    func(registry.Finding) {},
			Progress: func(metadata.MoveProgress) {},
		}
		return move.Run(t.Context())
	}
	base := emptyStore(t)
	m, dir := newMachine(t, base), base
	if err := restore(t, m, dir); err != nil {
		t.Fatal(err)
	}
	checkAll(t, m, c, filepath.Dir(dir))
	steps, kinds := m.steps(), slices.Sorted(maps.Keys(faults))
	pairs, seed := pairsOf(t)
	met, resumed := 0, 0
	for i := range pairs {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		first, second := kinds[rnd.IntN(len(kinds))], kinds[rnd.IntN(len(kinds))]
		at, then := rnd.IntN(steps), rnd.IntN(steps)
		name := fmt.Sprintf("%d_%s_at_%d_then_%s_at_%d", i, first, at, second, then)
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			base := emptyStore(t)
			m, dir := newMachine(t, base), base
			m.fault = faults[first](at)
			err := restore(t, m, dir)
			for _, fault := range []func(int, string) outcome{faults[second](then), nil} {
				if err == nil {
					break
				}
				m, dir = restarted(t, m, dir, rnd.IntN(3))
				if ended(t, m, dir) { // the error came behind the last step
					db, err := open(t, m, dir)
					if err != nil {
						t.Fatalf("opening what was restored: %v", err)
					}
					if err := db.Close(); err != nil {
						t.Errorf("closing what was restored: %v", err)
					}
					break
				}
				resumed++
				m.fault = fault
				err = restore(t, m, dir)
				switch {
				case err != nil && fault == nil:
					t.Fatalf("the restore does not go on: %v", err)
				case err != nil:
					met++
				}
			}
			checkAll(t, m, c, filepath.Dir(dir))
		})
	}
	t.Logf("%d pairs, of which the second fault was met in %d; %d times the restore went on", pairs, met, resumed)
	if met*4 < pairs {
		t.Error("void: too few second faults were met")
	}
}

// ended reports whether a restore has ended whose files a machine has. What one that has
// not has left is refused, or has nothing in it.
func ended(t *testing.T, m *machine, dir string) bool {
	t.Helper()
	left, at := restarted(t, m, dir, 0)
	db, err := open(t, left, at)
	if err != nil {
		t.Errorf("opening what an interrupted restore left: %v", err)
		return false
	}
	defer db.Close()
	catalog, err := metadata.Open(t.Context(), db, nil, metadata.Options{}, quiet)
	if errors.Is(err, metadata.ErrMoving) {
		return false
	}
	if err != nil {
		t.Errorf("opening what an interrupted restore left: %v", err)
		return false
	}
	defer catalog.Close()
	var repositories, blobs int
	err = errors.Join(db.QueryRow(t.Context(), `SELECT COUNT(*) FROM repositories`).Scan(&repositories), db.QueryRow(t.Context(), `SELECT COUNT(*) FROM blobs`).Scan(&blobs))
	if err != nil {
		t.Error(err)
	}
	return repositories+blobs > 0 // of which checkAll looks at everything
}
