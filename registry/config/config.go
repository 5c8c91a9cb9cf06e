package config

import "time"

// SpecVersion is the version of the OCI distribution specification we serve.
const SpecVersion = "1.1.1"

// Config is the whole file. The fields carry the file's keys as their json
// names; the tables in keys*.go, and docs/configuration.md made from them, say
// what each key means. Durations that are zero are off unless the key says
// otherwise. Optional blocks are pointers, nil when the file lacks them.
type Config struct {
	DistSpecVersion string      `json:"distSpecVersion"`
	Storage         Storage     `json:"storage"`
	HTTP            HTTP        `json:"http"`
	Log             Log         `json:"log"`
	Extensions      *Extensions `json:"extensions"`
	Services        Services    `json:"services"`
	Outbound        Outbound    `json:"outbound"`
	Scheduler       *Scheduler  `json:"scheduler"`
	Cluster         *Cluster    `json:"cluster"`

	file file // where the keys stood; zero when the Config came from no file
}

// file remembers the text a Config came from, for messages that name lines.
type file struct {
	name string
	root *node
}

// Log says where the program's own log goes.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn, error, fatal or panic
	Output string `json:"output"` // a file; empty is standard output
	Audit  string `json:"audit"`  // a file, "stdout" or "stderr"; empty is none

	AuditRetention time.Duration `json:"auditRetention"` // of events in the catalog; 0: for ever
}

// Scheduler is accepted for zot's sake and not used.
type Scheduler struct {
	NumWorkers int `json:"numWorkers"`
}

// Cluster is accepted for zot's sake and not used.
type Cluster struct {
	Members []string `json:"members"`
	HashKey Secret   `json:"hashKey"`
	TLS     *TLS     `json:"tls"`
}

// Defaults is the configuration of a file without keys. It lacks what a
// program must be told: storage.rootDirectory above all.
func Defaults() *Config {
	return &Config{
		DistSpecVersion: SpecVersion,
		Storage: Storage{
			Pool: Pool{
				Dedupe:     true,
				GC:         true,
				GCDelay:    time.Hour,
				GCInterval: time.Hour,
			},
			UndoWindow:  24 * time.Hour,
			VerifyReads: VerifyInterval,
			Reserve:     64 << 20,
			Watermarks:  Watermarks{Low: 0.85, High: 0.95},
			Metadata:    Metadata{Driver: SQLite},
		},
		HTTP: HTTP{
			Address:      "127.0.0.1",
			Port:         "8080",
			ReadTimeout:  time.Minute,
			WriteTimeout: time.Minute,

			UploadsPerClient: 1000,
			OpenUploads:      1000,
		},
		Log: Log{Level: "debug", AuditRetention: 90 * 24 * time.Hour},
	}
}

// WithoutFile is the configuration of a program started without a file:
// reachable from this machine only, with its data in ./data.
func WithoutFile() *Config {
	c := Defaults()
	c.HTTP.Port = "5000"
	c.Storage.RootDirectory = "data"
	return c
}
