package sqldb

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestPadded(t *testing.T) {
	for n, want := range map[int][]int{0: nil, 1: {1}, 2: {2}, 3: {4}, 5: {8}, 128: {128}, 129: {128, 1}, 300: {128, 128, 64}} {
		items := make([]int, n)
		for i := range items {
			items[i] = i
		}
		var sizes []int
		seen := map[int]bool{}
		Padded(items, func(part []int) error {
			sizes = append(sizes, len(part))
			for _, i := range part {
				seen[i] = true
			}
			return nil
		})
		if diff := cmp.Diff(want, sizes); diff != "" {
			t.Errorf("%d items: sizes (-want +got):\n%s", n, diff)
		}
		if len(seen) != n {
			t.Errorf("%d items: got %d different ones", n, len(seen))
		}
	}
}

func TestPlaceholders(t *testing.T) {
	for want, got := range map[string]string{
		"":         Placeholders(1, 0),
		"$1":       Placeholders(1, 1),
		"$2,$3,$4": Placeholders(2, 3),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReadMigrations(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	got, err := readMigrations(fstest.MapFS{
		"m/0001_a.sql": file("-- about; it\nCREATE TABLE a (\n  x TEXT -- why\n);\n\nCREATE INDEX i ON a (x);\n"),
		"m/0002_b.sql": file("-- oldest: 1\nDROP TABLE a"),
	}, "m")
	if err != nil {
		t.Fatal(err)
	}
	want := []migration{
		{[]string{"CREATE TABLE a (\n  x TEXT -- why\n);\n", "CREATE INDEX i ON a (x);\n"}, 1},
		{[]string{"DROP TABLE a"}, 1},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(migration{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"m/one.sql", "m/1.sql", "m/0000_zero.sql", "m/10000_much.sql"} {
		if _, err := readMigrations(fstest.MapFS{name: file("")}, "m"); err == nil || !strings.Contains(err.Error(), "is not migration 1") {
			t.Errorf("%s: got error %v, want one about its number", name, err)
		}
	}
}

// A number that was left out changes nothing; one that is there twice is refused.
func TestReadMigrationsGap(t *testing.T) {
	got, err := readMigrations(fstest.MapFS{"m/0002_b.sql": {Data: []byte("B;\n")}}, "m")
	if err != nil {
		t.Fatal(err)
	}
	want := []migration{{nil, 1}, {[]string{"B;\n"}, 2}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(migration{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := readMigrations(fstest.MapFS{"m/0001_a.sql": {}, "m/0001_b.sql": {}}, "m"); err == nil {
		t.Error("two migrations have one number")
	}
}

func TestReadMigrationsOldest(t *testing.T) {
	for line, want := range map[string]int{"": 2, "-- oldest: 1": 1, "  -- oldest:2": 2, "-- oldest: 0": 0, "-- oldest: 3": 0, "-- oldest: x": 0} {
		steps, err := readMigrations(fstest.MapFS{
			"m/0001_a.sql": {Data: []byte("A;\n")},
			"m/0002_b.sql": {Data: []byte("-- about\n" + line + "\nB;\n")},
		}, "m")
		if want == 0 && err == nil || want > 0 && (err != nil || steps[1].oldest != want) {
			t.Errorf("%q: got %v, %v, want %d", line, steps, err, want)
		}
	}
}

func TestMigrateRunsEachStepOnce(t *testing.T) {
	d := collecting
	d.Clustered = "WITHOUT ROWID"
	db, fake := openFake(t, d, nil)
	defer db.Close()
	fsys := fstest.MapFS{"m/0001_a.sql": &fstest.MapFile{Data: []byte("CREATE TABLE a (x TEXT) /*clustered*/;\n")}}
	if err := db.Migrate(t.Context(), fsys, "m"); err != nil {
		t.Fatal(err)
	}
	log := strings.Join(fake.took(), "\n")
	if !strings.Contains(log, "CREATE TABLE a (x TEXT) WITHOUT ROWID;") || !strings.Contains(log, "INSERT INTO schema_versions") {
		t.Errorf("got statements\n%s\nwant the migration and its record", log)
	}
	// The fake always answers version 0; an unknown one is not accepted.
	if err := db.Migrate(t.Context(), fstest.MapFS{}, "m"); err == nil {
		t.Error("no migrations: no error")
	}
}
