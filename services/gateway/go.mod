module github.com/berth-registry/berth/services/gateway

go 1.26.0

require github.com/berth-registry/berth/registry v0.0.0
require github.com/berth-registry/berth/proto v0.0.0

replace github.com/berth-registry/berth/registry => ../../registry
replace github.com/berth-registry/berth/proto => ../../proto
