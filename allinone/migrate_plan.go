package allinone

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// migrationPlan says what differs between two config files.
type migrationPlan struct {
	from, to config.Storage
	source   string // what moves, for people and to know it again
	rows     bool   // the catalog moves to another database
	pools    map[registry.Pool]poolMove
}

// poolMove is a pool whose bytes move.
type poolMove struct{ from, to config.Pool }

// planMigration compares the storage sections of two config files.
func planMigration(from, to config.Storage) (*migrationPlan, error) {
	p := &migrationPlan{from: from, to: to, pools: make(map[registry.Pool]poolMove)}
	source, err := describeCatalog(from)
	if err != nil {
		return nil, err
	}
	target, err := describeCatalog(to)
	if err != nil {
		return nil, err
	}
	p.rows = source != target
	p.addPool("", from.Pool, to.Pool)
	for name, sub := range from.SubPaths {
		other, ok := to.SubPaths[name]
		if !ok {
			return nil, fmt.Errorf("storage.subPaths: the target lacks %s", name)
		}
		p.addPool(registry.Pool(name), sub.Pool, other.Pool)
	}
	for name := range to.SubPaths {
		if _, ok := from.SubPaths[name]; !ok {
			return nil, fmt.Errorf("storage.subPaths: the source lacks %s", name)
		}
	}
	if !p.rows && len(p.pools) == 0 {
		return nil, errors.New("both config files describe the same store")
	}
	p.source, err = p.describe()
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *migrationPlan) addPool(name registry.Pool, from, to config.Pool) {
	if !samePool(from, to) {
		p.pools[name] = poolMove{from, to}
	}
}

// describe says what moves from where to where. It has no secrets, and is the same
// for every run of one migration and for no other.
func (p *migrationPlan) describe() (string, error) {
	var parts []string
	if p.rows {
		from, err := describeCatalog(p.from)
		if err != nil {
			return "", err
		}
		to, err := describeCatalog(p.to)
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("the catalog (%s to %s)", from, to))
	}
	for _, name := range slices.Sorted(maps.Keys(p.pools)) {
		m := p.pools[name]
		parts = append(parts, fmt.Sprintf("pool %q (%s to %s)", name, describePool(m.from), describePool(m.to)))
	}
	return strings.Join(parts, ", "), nil
}

// describeCatalog names a database without its secrets: what may change while it
// stays the same database is not in it.
func describeCatalog(s config.Storage) (string, error) {
	if s.Metadata.Driver == config.SQLite {
		return "SQLite in " + absolute(s.RootDirectory), nil
	}
	dsn, err := s.Metadata.ReadDSN()
	if err != nil {
		return "", fmt.Errorf("storage.metadata: %w", err)
	}
	u, err := url.Parse(string(dsn))
	if err == nil && u.Host != "" {
		return fmt.Sprintf("%s at %s%s, search_path %q", s.Metadata.Driver, u.Host, u.Path, u.Query().Get("search_path")), nil
	}
	var words []string
	for _, w := range strings.Fields(string(dsn)) {
		switch key, _, _ := strings.Cut(w, "="); key {
		case "host", "port", "dbname", "search_path":
			words = append(words, w)
		}
	}
	slices.Sort(words)
	return s.Metadata.Driver + " at " + strings.Join(words, " "), nil
}

// samePool reports whether two pools are one place for bytes.
func samePool(a, b config.Pool) bool {
	if a.Local() != b.Local() {
		return false
	}
	if a.Local() {
		return absolute(a.RootDirectory) == absolute(b.RootDirectory)
	}
	return describePool(a) == describePool(b)
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

func describePool(p config.Pool) string {
	if p.Local() {
		return absolute(p.RootDirectory)
	}
	text := func(key string) string { s, _ := p.StorageDriver[key].(string); return s }
	return fmt.Sprintf("%s %s at %q, root %q", p.StorageDriver.Name(), text("bucket"), text("regionendpoint"), strings.Trim(text("rootdirectory"), "/"))
}
