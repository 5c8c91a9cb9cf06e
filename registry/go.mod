module github.com/berth-registry/berth/registry

go 1.26.0

require github.com/berth-registry/berth/proto v0.0.0

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	go.yaml.in/yaml/v3 v3.0.4 // indirect
)

replace github.com/berth-registry/berth/proto => ../proto
