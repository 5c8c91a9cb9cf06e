package config

import (
	"fmt"
	"time"
)

// Storage says where bytes and names are kept. Its Pool is the default pool.
type Storage struct {
	Pool

	MaxRepos    int  `json:"maxRepos"`
	FastRestart bool `json:"fastRestart"` // accepted and not used

	Quotas        []Quota            `json:"quotas"`
	ImmutableTags []ImmutableTags    `json:"immutableTags"`
	ReadOnly      []string           `json:"readOnly"` // globs of repositories
	SubPaths      map[string]SubPath `json:"subPaths"` // by "/prefix", lower case

	Redirect    Redirect      `json:"redirect"`
	Metadata    Metadata      `json:"metadata"`
	AllowSparse bool          `json:"allowSparse"`
	UndoWindow  time.Duration `json:"undoWindow"`
	Reserve     int           `json:"reserve"` // bytes
	Watermarks  Watermarks    `json:"watermarks"`
	VerifyReads string        `json:"verifyReads"`

	AllowWrongSizes bool `json:"allowWrongSizes"`
}

// Quota limits what repositories may hold together.
type Quota struct {
	Repositories []string `json:"repositories"` // globs
	Bytes        int64    `json:"bytes"`        // of different content
}

// ImmutableTags are tags that are neither moved nor removed once they are set.
type ImmutableTags struct {
	Repositories []string `json:"repositories"` // globs
	Tags         []string `json:"tags"`         // globs; none: all tags
}

// The values of storage.verifyReads: check what is sent of blobs that were not
// checked within the interval of scrubbing, or all that is sent.
const (
	VerifyInterval = "interval"
	VerifyAlways   = "always"
)

// Watermarks are parts of a file system in use, from 0 to 1.
type Watermarks struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Pool is one place for bytes: the default one, or one of storage.subPaths.
type Pool struct {
	RootDirectory   string        `json:"rootDirectory"`
	Dedupe          bool          `json:"dedupe"`
	RemoteCache     bool          `json:"remoteCache"` // accepted and not used
	RedirectBlobURL bool          `json:"redirectBlobURL"`
	GC              bool          `json:"gc"`
	GCDelay         time.Duration `json:"gcDelay"`
	GCInterval      time.Duration `json:"gcInterval"`
	GCTimeWindow    string        `json:"gcTimeWindow"` // "HH:MM-HH:MM" in UTC
	GCMaxDelay      time.Duration `json:"gcMaxSchedulerDelay"`
	Commit          *bool         `json:"commit"`        // see Durable
	StorageDriver   Driver        `json:"storageDriver"` // empty: the local disk
	CacheDriver     Driver        `json:"cacheDriver"`   // accepted and not used
	Cache           Cache         `json:"cache"`
	Retention       *Retention    `json:"retention"` // of the repositories of this pool only
}

// Cache says how much content of upstreams a pool keeps.
type Cache struct {
	Bytes int64    `json:"bytes"` // 0: any number
	Pins  []string `json:"pins"`  // patterns of what stays
}

// Durable reports whether content must be on stable storage before a request is
// answered. Only an explicit "commit": false gives that up.
func (p Pool) Durable() bool { return p.Commit == nil || *p.Commit }

// Window returns the minutes of the day, in UTC, between which content may be
// removed; equal if there is no such window. It may wrap midnight.
func (p Pool) Window() (from, to int, err error) {
	if p.GCTimeWindow == "" {
		return 0, 0, nil
	}
	from, to, ok := timeWindow(p.GCTimeWindow)
	if !ok {
		return 0, 0, fmt.Errorf("gcTimeWindow: %q is not a daily time window", p.GCTimeWindow)
	}
	return from, to, nil
}

// Local reports whether the pool is on the local disk.
func (p Pool) Local() bool {
	name := p.StorageDriver.Name()
	return name == "" || name == "local"
}

// Redirect says which requests for blobs are redirected to the object store, in
// pools with redirectBlobURL.
type Redirect struct {
	MinSize          int      `json:"minSize"`          // bytes
	Networks         []string `json:"networks"`         // of clients; none: any
	ExceptNetworks   []string `json:"exceptNetworks"`   // of clients
	ExceptUserAgents []string `json:"exceptUserAgents"` // parts of the header
}

// SubPath is the pool of the repositories whose first path component is its key.
type SubPath struct{ Pool }

func (s *SubPath) setDefaults() {
	s.GCDelay = time.Hour
	s.GCInterval = time.Hour
}

// Driver is a free map of driver settings. All keys are lower case, at every
// level, as in zot; values are string, bool, int64, float64, []any and
// map[string]any.
type Driver map[string]any

// Name is the driver's name, empty for none.
func (d Driver) Name() string {
	name, _ := d["name"].(string)
	return name
}

// The values of storage.metadata.driver.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Metadata says where the catalog is kept.
type Metadata struct {
	Driver       string        `json:"driver"`
	DSN          Secret        `json:"dsn"`
	DSNFile      string        `json:"dsnFile"`
	MaxStaleness time.Duration `json:"maxStaleness"`
}

// ReadDSN returns the data source name, from the file if one is given.
func (m Metadata) ReadDSN() (Secret, error) { return ReadSecret(m.DSN, m.DSNFile) }

// Retention says which tags and manifests are kept.
type Retention struct {
	DryRun   bool              `json:"dryRun"`
	Delay    *time.Duration    `json:"delay"` // nil: gcDelay
	Policies []RetentionPolicy `json:"policies"`
}

// RetentionPolicy applies to the repositories whose name matches a glob, unless
// an earlier policy does.
type RetentionPolicy struct {
	Repositories    []string  `json:"repositories"`
	DeleteReferrers bool      `json:"deleteReferrers"`
	DeleteUntagged  bool      `json:"deleteUntagged"`
	KeepTags        []KeepTag `json:"keepTags"`
	KeepUntagged    *KeepRule `json:"keepUntagged"`
}

func (p *RetentionPolicy) setDefaults() { p.DeleteUntagged = true }

// KeepTag holds the rules of the tags that match one of its patterns.
type KeepTag struct {
	Patterns []string `json:"patterns"` // unanchored regular expressions; none: all tags
	KeepRule
}

// KeepRule keeps what any of its rules keeps.
type KeepRule struct {
	PulledWithin            *time.Duration `json:"pulledWithin"`
	PushedWithin            *time.Duration `json:"pushedWithin"`
	MostRecentlyPulledCount int            `json:"mostRecentlyPulledCount"`
	MostRecentlyPushedCount int            `json:"mostRecentlyPushedCount"`
}
