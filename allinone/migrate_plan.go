package allinone

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// migrationPlan says what differs between two config files.
type migrationPlan struct {
	from, to config.Storage
	source   string // for people, and to know it again
	rows     bool   // the catalog moves to another database
	pools    map[registry.Pool]poolMove
}

// poolMove is a pool whose bytes move.
type poolMove struct{ from, to config.Pool }

// planMigration compares the storage sections of two config files.
func planMigration(from, to config.Storage) (*migrationPlan, error) {
	p := &migrationPlan{from: from, to: to, pools: make(map[registry.Pool]poolMove)}
	p.rows = !sameCatalog(from, to)
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
	p.source = fmt.Sprintf("%s catalog, blobs of %s", from.Metadata.Driver, describePool(from.Pool))
	return p, nil
}

func (p *migrationPlan) addPool(name registry.Pool, from, to config.Pool) {
	if !samePool(from, to) {
		p.pools[name] = poolMove{from, to}
	}
}

// sameCatalog reports whether two storage sections name one database.
func sameCatalog(a, b config.Storage) bool {
	if a.Metadata.Driver != b.Metadata.Driver {
		return false
	}
	if a.Metadata.Driver == config.SQLite {
		return absolute(a.RootDirectory) == absolute(b.RootDirectory)
	}
	return a.Metadata.DSN == b.Metadata.DSN && a.Metadata.DSNFile == b.Metadata.DSNFile
}

// samePool reports whether two pools are one place for bytes.
func samePool(a, b config.Pool) bool {
	if a.Local() != b.Local() {
		return false
	}
	if a.Local() {
		return absolute(a.RootDirectory) == absolute(b.RootDirectory)
	}
	return reflect.DeepEqual(a.StorageDriver, b.StorageDriver)
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
	bucket, _ := p.StorageDriver["bucket"].(string)
	prefix, _ := p.StorageDriver["rootdirectory"].(string)
	return fmt.Sprintf("%s %s/%s", p.StorageDriver.Name(), bucket, prefix)
}
