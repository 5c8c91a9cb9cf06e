// Where google/api/annotations.proto comes from when code is generated: a Go
// module that carries the files, so that the Go proxy and go.sum serve them as
// they do everything else. `make generate` copies them; nothing is compiled.
module github.com/berth-registry/berth/tools/googleapis

go 1.26.0

require github.com/grpc-ecosystem/grpc-gateway v1.16.0
