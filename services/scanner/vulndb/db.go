package vulndb

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	tdb "github.com/aquasecurity/trivy-db/pkg/db"
	bolt "go.etcd.io/bbolt"

	"github.com/berth-registry/berth/registry"
)

// Options configure a [DB].
type Options struct {
	// Dir is where databases are, for this DB alone. It is made if need be.
	Dir string
	// Sources are whose severities count, in order; "auto" is the advisory's own.
	Sources []string
	// Ignored are vulnerabilities that are not told of; nil: none.
	Ignored *Ignored
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// DB is a vulnerability database that can be replaced. Its methods may be called by
// many goroutines.
type DB struct {
	o       Options
	choice  atomic.Pointer[choice]
	loading sync.Mutex // one new database at a time

	mu      sync.RWMutex // held for reading by look-ups
	current registry.ScanDB
	dir     string // that current is in
}

const (
	fileName = "trivy.db"
	infoName = "info.json"
	newDir   = "new"
	// schema is the version of databases that Trivy's code reads.
	schema = 2
)

// Open returns the database in o.Dir, which may be none yet. What a process that
// ended has left there is removed.
func Open(o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	// Trivy's code tells of what it does by the process's default logger, and has no
	// other.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if err := Private(o.Dir); err != nil {
		return nil, fmt.Errorf("opening the vulnerability database: %w", err)
	}
	d := &DB{o: o}
	d.Choose(o.Sources, o.Ignored)
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the vulnerability database: %w", err)
	}
	var best registry.ScanDB
	for _, e := range entries {
		info, err := readInfo(filepath.Join(o.Dir, e.Name()))
		if e.Name() != newDir && err == nil && info.Version != "" && info.Loaded > best.Loaded {
			best, d.dir = info, filepath.Join(o.Dir, e.Name())
		}
	}
	for _, e := range entries {
		if dir := filepath.Join(o.Dir, e.Name()); dir != d.dir {
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("removing an old vulnerability database: %w", err)
			}
		}
	}
	if best.Version == "" {
		return d, nil
	}
	err = check(filepath.Join(d.dir, fileName), false)
	if err == nil {
		err = initDB(d.dir)
	}
	if err != nil {
		o.Log.Error("the vulnerability database is damaged: it is left out until there is another", "error", err)
		d.dir = ""
		return d, nil
	}
	d.current = best
	return d, nil
}

func initDB(dir string) error {
	return guarded(func() error {
		return tdb.Init(dir, tdb.WithBoltOptions(&bolt.Options{ReadOnly: true, Timeout: time.Second}))
	})
}

func readInfo(dir string) (info registry.ScanDB, err error) {
	b, err := os.ReadFile(filepath.Join(dir, infoName))
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(b, &info)
}

// choice is what of the options may change while the database is open.
type choice struct {
	sources []string
	ignored *Ignored
}

// Choose has the look-ups that begin from now on go by other sources of severities, and
// leave out other vulnerabilities. ignored may be nil.
func (d *DB) Choose(sources []string, ignored *Ignored) {
	d.choice.Store(&choice{sources, ignored})
}

// Current returns what database is in use. Its version is another one when what is
// ignored is.
func (d *DB) Current() registry.ScanDB {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, ignored := d.choice.Load().ignored.current()
	return d.told(d.current, ignored)
}

// told returns a database as others know it.
func (d *DB) told(db registry.ScanDB, ignored string) registry.ScanDB {
	if db.Version != "" && ignored != "" {
		db.Version += "-" + ignored
	}
	return db
}

// Close closes the database.
func (d *DB) Close() error {
	d.loading.Lock()
	defer d.loading.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current.Version == "" {
		return nil
	}
	d.current = registry.ScanDB{}
	return tdb.Close()
}

// Load takes the database that r has: the layer of its artifact, or trivy.db itself.
// source says where it is from. One that is not valid is
// [registry.ErrParameterInvalid], and changes nothing. If it is the one in use, it is
// only noted that it was looked for.
func (d *DB) Load(r io.Reader, source string) (registry.ScanDB, error) {
	d.loading.Lock()
	defer d.loading.Unlock()
	dir := filepath.Join(d.o.Dir, newDir)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return registry.ScanDB{}, fmt.Errorf("loading a vulnerability database: %w", err)
	}
	defer os.RemoveAll(dir)
	meta, err := unpack(r, dir)
	if err != nil {
		return registry.ScanDB{}, fmt.Errorf("loading a vulnerability database: %w", err)
	}
	if meta.Version != 0 && meta.Version != schema {
		return registry.ScanDB{}, registry.ErrParameterInvalid.With("the database has schema %d, want %d", meta.Version, schema)
	}
	file := filepath.Join(dir, fileName)
	if err := check(file, true); err != nil {
		return registry.ScanDB{}, registry.ErrParameterInvalid.With("this is no valid vulnerability database: %v", err)
	}
	version, err := hashOf(file)
	if err != nil {
		return registry.ScanDB{}, fmt.Errorf("loading a vulnerability database: %w", err)
	}
	info := registry.ScanDB{Version: version, Updated: micros(meta.UpdatedAt), Next: micros(meta.NextUpdate), Loaded: d.o.Now().UnixMicro(), Source: source}
	d.mu.Lock()
	if d.current.Version == version {
		defer d.mu.Unlock()
		d.current.Loaded, d.current.Source = info.Loaded, source
		_, ignored := d.choice.Load().ignored.current()
		return d.told(d.current, ignored), nil
	}
	d.mu.Unlock()
	if err := d.swap(dir, info); err != nil {
		return registry.ScanDB{}, err
	}
	return d.Current(), nil
}

// swap makes the database in dir the one in use.
func (d *DB) swap(dir string, info registry.ScanDB) error {
	b, err := json.Marshal(info)
	if err == nil {
		err = writeDurably(filepath.Join(dir, infoName), b)
	}
	target := filepath.Join(d.o.Dir, fmt.Sprintf("%s-%d", info.Version[:12], info.Loaded))
	if err == nil {
		err = os.Rename(dir, target)
	}
	if err != nil {
		return fmt.Errorf("keeping a vulnerability database: %w", err)
	}
	d.mu.Lock() // look-ups end first
	defer d.mu.Unlock()
	old := d.dir
	if d.current.Version != "" {
		if err := tdb.Close(); err != nil {
			d.o.Log.Warn("closing the old vulnerability database", "error", err)
		}
	}
	if err := initDB(target); err != nil {
		if old != "" && d.current.Version != "" {
			err = errors.Join(err, initDB(old))
		}
		return fmt.Errorf("opening a new vulnerability database: %w", errors.Join(err, os.RemoveAll(target)))
	}
	d.current, d.dir = info, target
	if old != "" {
		if err := os.RemoveAll(old); err != nil {
			d.o.Log.Warn("removing the old vulnerability database", "error", err)
		}
	}
	return nil
}

func writeDurably(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func hashOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func isUnknownOS(err error) bool { return strings.Contains(err.Error(), "unsupported os") }

// clip returns at most n bytes of a text.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// safeURL returns a link that may be shown as one, "" for others.
func safeURL(s string) string {
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		return clip(s, 2<<10)
	}
	return ""
}
