module github.com/berth-registry/berth/allinone

go 1.26.0

require github.com/berth-registry/berth/registry v0.0.0
require github.com/berth-registry/berth/proto v0.0.0
require github.com/berth-registry/berth/services/gateway v0.0.0
require github.com/berth-registry/berth/services/blobstore v0.0.0
require github.com/berth-registry/berth/services/metadata v0.0.0

replace github.com/berth-registry/berth/registry => ../registry
replace github.com/berth-registry/berth/proto => ../proto
replace github.com/berth-registry/berth/services/gateway => ../services/gateway
replace github.com/berth-registry/berth/services/blobstore => ../services/blobstore
replace github.com/berth-registry/berth/services/metadata => ../services/metadata
