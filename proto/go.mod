module github.com/berth-registry/berth/proto

go 1.26.0


