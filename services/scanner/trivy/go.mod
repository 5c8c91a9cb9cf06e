// A test that needs Trivy's own parsers. This module is not in go.work: no program has
// anything of it.
module github.com/berth-registry/berth/services/scanner/trivy

go 1.26.3

require (
	github.com/aquasecurity/trivy v0.73.0
	github.com/berth-registry/berth/services/scanner v0.0.0
	github.com/google/go-cmp v0.7.0
)

require (
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/aquasecurity/trivy-db v0.0.0-20260629102122-a0049d7ad12f // indirect
	github.com/berth-registry/berth/registry v0.0.0 // indirect
	github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc // indirect
	github.com/fatih/color v1.19.0 // indirect
	github.com/google/go-containerregistry v0.21.7 // indirect
	github.com/google/licenseclassifier/v2 v2.0.0 // indirect
	github.com/hashicorp/errwrap v1.1.0 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
	github.com/klauspost/compress v1.20.0 // indirect
	github.com/masahiro331/go-mvn-version v0.0.0-20260119054159-d21fcd2e7de1 // indirect
	github.com/mattn/go-colorable v0.1.15 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mattn/go-shellwords v1.0.14 // indirect
	github.com/mitchellh/hashstructure/v2 v2.0.2 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/package-url/packageurl-go v0.1.6 // indirect
	github.com/rust-secure-code/go-rustaudit v0.0.0-20250226111315-e20ec32e963c // indirect
	github.com/samber/lo v1.53.0 // indirect
	github.com/sergi/go-diff v1.4.0 // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/xerrors v0.0.0-20240903120638-7835f813f4da // indirect
	k8s.io/utils v0.0.0-20260319190234-28399d86e0b5 // indirect
)

replace (
	github.com/berth-registry/berth/proto => ../../../proto
	github.com/berth-registry/berth/registry => ../../../registry
	github.com/berth-registry/berth/services/metadata => ../../metadata
	github.com/berth-registry/berth/services/scanner => ..
)
