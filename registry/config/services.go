package config

// Services says where the services listen and are found. A program links every
// service it can that has no address here, and dials the others.
type Services struct {
	Blobstore Service    `json:"blobstore"`
	Metadata  Service    `json:"metadata"`
	Syncer    Service    `json:"syncer"`
	Scanner   Service    `json:"scanner"`
	TLS       *MutualTLS `json:"tls"`
	Insecure  bool       `json:"insecure"` // plaintext gRPC beyond loopback
	// Reflection makes servers tell which methods and messages they have.
	Reflection bool `json:"reflection"`
}

// MutualTLS is how the programs know each other: each shows a certificate.
type MutualTLS struct {
	Cert   string `json:"cert"`
	Key    string `json:"key"`
	CACert string `json:"cacert"` // may hold several
	Peers  Peers  `json:"peers"`
}

// Peers are the names that show in a certificate what its owner is: DNS names
// and URIs of the subject alternative names. "*.domain" stands for every name
// with one label more, "scheme://x/*" for every URI below, and for automation "*"
// for every certificate of the authority.
type Peers struct {
	Gateway    []string `json:"gateway"`
	Blobstore  []string `json:"blobstore"`
	Metadata   []string `json:"metadata"`
	Syncer     []string `json:"syncer"`
	Scanner    []string `json:"scanner"`
	Automation []string `json:"automation"` // clients that are no service
}

func (t *MutualTLS) setDefaults() {
	t.Peers = Peers{
		Gateway:   []string{"gateway"},
		Blobstore: []string{"blobstore"},
		Metadata:  []string{"metadata"},
		Syncer:    []string{"syncer"},
		Scanner:   []string{"scanner"},
	}
}

// Service is one gRPC service.
type Service struct {
	Listen  string   `json:"listen"`  // host:port of the program that serves it
	Address []string `json:"address"` // where others find it; empty: linked
	Metrics string   `json:"metrics"` // host:port of metrics and probes over HTTP; empty: none
}
