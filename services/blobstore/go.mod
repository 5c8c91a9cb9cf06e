module github.com/berth-registry/berth/services/blobstore

go 1.26.0

require (
	github.com/berth-registry/berth/registry v0.0.0
	github.com/google/go-cmp v0.7.0
)

require (
	github.com/berth-registry/berth/proto v0.0.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/berth-registry/berth/registry => ../../registry

replace github.com/berth-registry/berth/proto => ../../proto
