module github.com/berth-registry/berth/services/blobstore

go 1.26.0

require github.com/berth-registry/berth/registry v0.0.0

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)

replace github.com/berth-registry/berth/registry => ../../registry

replace github.com/berth-registry/berth/proto => ../../proto
