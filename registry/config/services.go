package config

// Services says where the services listen and are found. A program links every
// service it can that has no address here, and dials the others.
type Services struct {
	Blobstore Service `json:"blobstore"`
	Metadata  Service `json:"metadata"`
	Syncer    Service `json:"syncer"`
	Scanner   Service `json:"scanner"`
	TLS       *TLS    `json:"tls"`
	Insecure  bool    `json:"insecure"` // plaintext gRPC beyond loopback
}

// Service is one gRPC service.
type Service struct {
	Listen  string   `json:"listen"`  // host:port of the program that serves it
	Address []string `json:"address"` // where others find it; empty: linked
}
