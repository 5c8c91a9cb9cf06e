# `make help` is the index; `make check` is what every change must pass.
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:

TOOLS ?= $(CURDIR)/.bin
export PATH := $(TOOLS):$(PATH)
export CGO_ENABLED ?= 0
export BERTH_CACHE ?= $(HOME)/.cache/berth

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_OK := -tags grpcnotrace -trimpath
LDFLAGS    := -s -w -X main.version=$(VERSION)

# Program and package, in the order they are built.
berth           := ./allinone/cmd/berth
berth-edge      := ./allinone/cmd/berth-edge
berth-gateway   := ./services/gateway/cmd/berth-gateway
berth-blobstore := ./services/blobstore/cmd/berth-blobstore
berth-metadata  := ./services/metadata/cmd/berth-metadata
berth-syncer    := ./services/syncer/cmd/berth-syncer
berth-scanner   := ./services/scanner/cmd/berth-scanner
PROGRAMS        := berth berth-edge berth-gateway berth-blobstore berth-metadata berth-syncer berth-scanner

# Every module of the workspace, as a directory relative to the root.
MODULES = $(shell awk '$$1 ~ /^\.\// {print $$1}' go.work)
PKGS    = $(addsuffix /...,$(MODULES))

# End-to-end tests run the programs in bin/; their build tag keeps them out of `make test`.
E2E = go test -tags e2e -count=1 -timeout 60m ./allinone/e2e

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

## ---- building ----

.PHONY: build run $(PROGRAMS)
build: $(PROGRAMS) ## Build every program into bin/

$(PROGRAMS): %:
	@echo "building bin/$@"
	go build $(GOFLAGS_OK) -ldflags '$(LDFLAGS)' -o bin/$@ $($@)

run: berth ## Build and run the all-in-one: 127.0.0.1:5000, ./data
	./bin/berth serve

.PHONY: modules
modules: ## Build each module alone (GOWORK=off), which proves its go.mod and boundary
	@for m in $(MODULES); do
		echo "building module $$m"
		GOWORK=off go -C $$m mod tidy -diff
		GOWORK=off go -C $$m build -tags grpcnotrace ./...
	done

.PHONY: size release release-verify release-size
size: berth berth-edge ## Program sizes against their limits, by module, and no reachable reflect.Method
	@allinone/e2e/size.sh bin/berth-edge 28000000 $(berth-edge) bin/berth 46000000 $(berth)
	@go run ./allinone/e2e/sizes $(berth-edge) $(berth)

release: ## Static programs for amd64, arm64, arm and riscv64 in dist/, with checksums
	deploy/release.sh

release-verify: ## Build the release again elsewhere and compare the bytes
	deploy/release.sh verify

release-size: ## Sizes of both all-in-one programs for amd64, arm64 and armv7
	@for arch in amd64 arm64 arm; do for p in berth-edge berth; do \
		GOARCH=$$arch GOARM=7 go build $(GOFLAGS_OK) -ldflags '$(LDFLAGS)' -o bin/$$arch/$$p ./allinone/cmd/$$p; \
		printf '%-6s %-11s %6.2f MB\n' $$arch $$p $$(echo "$$(stat -c %s bin/$$arch/$$p) / 1000000" | bc -l); \
	done; done

## ---- deploying ----

.PHONY: images
images: ## Container images of every program, from a release for this machine (see deploy/images.sh)
	RELEASE_ARCHES=$$(go env GOARCH) deploy/release.sh
	deploy/images.sh

.PHONY: manifests deploy-check
manifests: clients-install ## Render the Helm chart into deploy/k8s/manifests
	deploy/k8s/manifests.sh deploy/k8s/manifests

deploy-check: build clients-install ## Chart, manifests, compose files and systemd unit against the types and rules of those who read them
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT
	deploy/k8s/manifests.sh "$$new"
	diff -r "$$new" deploy/k8s/manifests || { echo "run make manifests"; exit 1; }
	GOWORK=off go -C deploy/validate vet ./...
	GOWORK=off go -C deploy/validate test -count=1 ./...

## ---- testing ----

.PHONY: test race fuzz
# The race detector needs a C compiler; a machine that has none still runs the tests.
RACE = $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

test: ## Unit and port tests of every module, race detector on
	@[ -n "$(RACE)" ] || echo "no C compiler: testing WITHOUT the race detector"
	CGO_ENABLED=$(if $(RACE),1,0) go test $(RACE) -timeout 30m $(TESTFLAGS) $(PKGS)

race: ## All programs with the race detector in bin/race, and the conformance suite against them
	CGO_ENABLED=1 go build -race -tags grpcnotrace -o bin/race/ $(foreach p,$(PROGRAMS),$($(p)))
	BERTH_BIN=$(CURDIR)/bin/race $(E2E) -v -run '^TestConformance$$'

.PHONY: shuffle leaks
shuffle: ## Unit and port tests in random order with the race detector; fast packages three times
	@allinone/e2e/shuffle.sh

ABORTS ?= 1000
leaks: ## Break off ABORTS (1000) requests of each kind, linked and split; nothing may be left
	ABORTS=$(ABORTS) go test -count=1 -timeout 15m ./allinone -v -run '^TestG25'

FUZZTIME ?= 10s
fuzz: ## Every fuzz target for FUZZTIME (10s) each; FUZZ chooses by name
	@allinone/e2e/fuzz.sh $(FUZZTIME) $(MODULES)

.PHONY: search search-times previous replicas-kill services-kill netcuts linear e2e conformance conformance-arm64 clients api tokens trust auth guide kill pg-restarts generated-rows migrate-kill slow memory bench fsck
e2e: build clients-install ## All end-to-end tests: conformance, client matrix, guide, kill loop; every topology
	$(E2E) -v

conformance: build clients-install ## Official OCI suite: linked, split, split with mutual TLS, two gateways; strict and sparse
	$(E2E) -v -run '^TestConformance(OnPostgres|OnS3)?$$'

conformance-arm64: clients-install ## The arm64 programs of `make release` under qemu-user: the suite in every topology (long)
	[ -f dist/berth-linux-arm64 ] || RELEASE_ARCHES=arm64 deploy/release.sh
	allinone/e2e/arm64.sh
	BERTH_BIN=$(CURDIR)/bin/arm64 $(E2E) -v -run '^TestConformance$$'

clients: build clients-install ## Client matrix against both topologies (UPDATE=1 rewrites docs/clients.md)
	$(E2E) -v -run '^TestClients'

trust: build clients-install ## Signatures and gates: cosign signs, crane and docker are blocked and let through; a dead receiver of events gets all in order
	$(E2E) -v -run '^TestTrust$$'

tokens: build clients-install ## Login, push, pull, logout by tokens, token servers, device code, certificates: docker, podman, skopeo, crane, oras, helm (UPDATE=1 rewrites docs/clients.md)
	$(E2E) -v -run '^TestTokens$$'

search: build clients-install ## The guide's search commands, with curl and jq, and other queries: linked, and split with mutual TLS
	$(E2E) -v -run '^TestSearch$$'

api: build clients-install ## The APIs for automation: curl, grpcurl and berth ctl in every topology
	$(E2E) -v -run '^TestAPI'

auth: build clients-install ## Login, push, pull and logout with every client, by password file and by directory; what goes wrong with directories
	$(E2E) -v -run '^TestAuth'

guide: build clients-install ## The zot guide's commands and config blocks, run against berth
	$(E2E) -v -run '^TestGuide$$'

compose: build clients-install ## Images and compose files in a Docker engine of their own, services stopped in turn
	$(E2E) -v -run '^Test(Image|Compose)'

KILLS ?= 300
kill: build ## kill -9 under load, linked and split: KILLS (300) times, nothing acknowledged may be lost
	KILLS=$(KILLS) $(E2E) -v -run '^TestG1Killed$$'

.PHONY: prove-kill-gc
prove-kill-gc: ## The same with garbage collection and scrub at work all the time, their times shorter than can be configured
	allinone/e2e/short-times.sh bin/short
	KILL_SHORT=1 BERTH_BIN=$(CURDIR)/bin/short KILLS=$(KILLS) $(E2E) -v -run '^TestG1Killed$$'

SERVICE_KILLS ?= 100
services-kill: build ## kill -9 of gateway, blobstore, metadata, syncer and scanner in turn under load, SERVICE_KILLS (100) times each: the others go on, nothing acknowledged may be lost; KILL_SEED repeats a run
	SERVICE_KILLS=$(SERVICE_KILLS) $(E2E) -v -run '^TestG2ServiceKilled$$'

REPLICA_KILLS ?= 500
replicas-kill: build ## kill -9 of one of two of each service over PostgreSQL and S3: REPLICA_KILLS (500) times
	REPLICA_KILLS=$(REPLICA_KILLS) $(E2E) -v -run '^TestG14Replicas$$'

CUTS ?= 35
CUT_SECONDS ?= 10
netcuts: build packages ## The network between each pair of services damaged in each way: CUTS (35) times for CUT_SECONDS (10)
	CUTS=$(CUTS) CUT_SECONDS=$(CUT_SECONDS) $(E2E) -v -run '^TestG15Cuts$$'

HISTORIES ?= 100
linear: build ## 16 clients move 8 tags through two gateways while processes are killed: HISTORIES (100) must be linearizable
	HISTORIES=$(HISTORIES) $(E2E) -v -run '^TestG18Linearizable$$'

MIGRATE_KILLS ?= 50
migrate-kill: build ## kill -9 of berth migrate, MIGRATE_KILLS (50) times for each kind of target
	MIGRATE_KILLS=$(MIGRATE_KILLS) $(E2E) -v -run '^TestMigrateKilled$$'

ADOPT_KILLS ?= 200
.PHONY: prove-adopt
prove-adopt: build ## kill -9 while a zot directory is taken over and finished, ADOPT_KILLS (200) times each; services apart take one over
	ADOPT_KILLS=$(ADOPT_KILLS) $(E2E) -v -run '^TestAdopt(Killed|Split)$$'

previous: build clients-install ## The suite on mixes of programs of this commit and of BERTH_PREVIOUS (HEAD~1)
	$(E2E) -v -run '^TestPrevious$$'

PG_RESTARTS ?= 200
pg-restarts: build packages ## PostgreSQL stopped under load PG_RESTARTS (200) times: nothing acknowledged may be lost
	PG_RESTARTS=$(PG_RESTARTS) $(E2E) -v -run '^TestG11PostgresRestarts$$'

PROVE_OPS ?= 1000
.PHONY: prove-rebuild prove-backup
PROVE_BACKUPS ?= 20
prove-backup: ## PROVE_BACKUPS (20) backups of each kind of store under load, each restored into another kind and read; PROVE_SEED repeats a run
	PROVE_BACKUPS=$(PROVE_BACKUPS) go test -count=1 -timeout 120m -v -run '^TestG22Backup$$' ./allinone

prove-rebuild: ## The database is deleted after PROVE_OPS (1000) random operations and made again; PROVE_SEED repeats a run
	PROVE_OPS=$(PROVE_OPS) go test -count=1 -timeout 60m -v -run '^TestProveRebuild$$' ./allinone

RANDOM_STEPS ?= 1000000
.PHONY: prove-random
prove-random: ## RANDOM_STEPS (1 M) random requests have the same answers from memory, from disk and over gRPC; RANDOM_SEED repeats a run
	RANDOM_STEPS=$(RANDOM_STEPS) go test -count=1 -timeout 600m -v -run '^TestG20' ./allinone | grep -v -e '--- PASS' -e '=== '

SIM_SEEDS ?= 200
.PHONY: prove-simulation
prove-simulation: ## SIM_SEEDS (200) simulated systems: services over a network that stalls and breaks, killed and started again, for hours of a clock of their own; SIM_SEED repeats a run
	SIM_SEEDS=$(SIM_SEEDS) go test -count=1 -timeout 120m -v -run '^TestG19' ./allinone | grep -v -e '--- PASS' -e '=== '

FILLS ?= 500
.PHONY: prove-disk-full
prove-disk-full: ## A small file system is filled to a random byte FILLS (500) times: 507, reads and deletions go on, nothing is damaged (root)
	FILLS=$(FILLS) go test -count=1 -timeout 60m ./allinone -v -run '^TestG7DiskFull$$'

FULL_ROUNDS ?= 20
.PHONY: full-disk
full-disk: ## The program on an ext4 file system of 64 MiB is filled by pushes FULL_ROUNDS (20) times: 507, then garbage collection makes room (root); FULL_SEED repeats a run
	allinone/e2e/short-times.sh bin/short
	FULL_ROUNDS=$(FULL_ROUNDS) BERTH_BIN=$(CURDIR)/bin/short $(E2E) -v -run '^TestG7FullDisk$$'

GC_OPS ?= 200000
DELETES ?= 1000
.PHONY: prove-gc
prove-gc: ## GC_OPS (200,000) pushes, mounts, deletes, restores and pulls on each kind of store while it is collected and scrubbed; GC_SEED repeats a run
	GC_OPS=$(GC_OPS) DELETES=$(DELETES) go test -count=1 -timeout 240m -v -run '^Test(G17|S154)' ./allinone

SMALL_SECONDS ?= 60
.PHONY: prove-small
prove-small: build ## 64 clients for SMALL_SECONDS (60) where the program may open 100 files and has no directory for temporary ones
	SMALL_SECONDS=$(SMALL_SECONDS) $(E2E) -v -run '^TestG23'

CLOCK_JUMPS ?= 500
GC_MANIFESTS ?= 40000
GC_BLOBS ?= 1000000
GC_PUSHES ?= 4000
.PHONY: prove-clock prove-gc-rate prove-gc-load
prove-clock: ## The clock jumps CLOCK_JUMPS (500) times on each kind of store while it is used and collected; GC_SEED repeats a run
	CLOCK_JUMPS=$(CLOCK_JUMPS) go test -count=1 -timeout 120m -v -run '^TestG10' ./allinone

prove-gc-rate: ## Garbage collection of GC_MANIFESTS (40,000) images at full speed on both databases: reviews and objects a second, memory
	GC_MANIFESTS=$(GC_MANIFESTS) go test -count=1 -timeout 60m -v -run '^TestGCRate$$' ./services/metadata

prove-gc-load: ## How long pushes take while GC, scrub and retention work on GC_BLOBS (1 M) rows of blobs, and while nothing does, on both databases
	GC_BLOBS=$(GC_BLOBS) GC_PUSHES=$(GC_PUSHES) go test -count=1 -timeout 120m -v -run '^TestS120' ./services/metadata

DAMAGES ?= 2000
.PHONY: prove-damage
prove-damage: clients-install ## DAMAGES (2000) stored blobs are damaged, on disk and in S3: all are found, how many are served wrong is told, a push heals; DAMAGE_SEED repeats a run
	DAMAGES=$(DAMAGES) go test -count=1 -timeout 120m ./allinone -v -run '^TestG9Damage$$'

.PHONY: prove-mutants prove-faults
FAULTS_STRIDE ?= 1
WHOLE_STRIDE ?= $(FAULTS_STRIDE)
prove-faults: ## Each call that changes a file fails, in each way, below the blobstore, below SQLite, and below a whole store (FUSE); FAULTS_STRIDE and WHOLE_STRIDE take fewer
	go test -count=1 -v -run '^TestG3G4EveryStepFails$$' ./services/blobstore/disk | grep -vE '^ *(---|===) (PASS|RUN)'
	FAULTS_STRIDE=$(FAULTS_STRIDE) GOWORK=off go -C services/metadata/faults test -count=1 -timeout 60m -v . | grep -vE '^ *(---|===) +(PASS|RUN)'
	FAULTS_STRIDE=$(WHOLE_STRIDE) GOWORK=off go -C allinone/faults test -count=1 -timeout 300m -v . | grep -vE '^ *(---|===) +(PASS|RUN)'

G6_PAIRS ?= 2000
.PHONY: prove-second-fault
prove-second-fault: ## Something fails, and something else while that is recovered: G6_PAIRS (2000) random pairs each below the blobstore, the catalog, and a restore; G6_SEED repeats a run
	G6_PAIRS=$(G6_PAIRS) go test -count=1 -timeout 60m -v -run '^TestG6' ./services/blobstore/disk | grep -vE '^ *(---|===) +(PASS|RUN)'
	G6_PAIRS=$(G6_PAIRS) GOWORK=off go -C services/metadata/faults test -count=1 -timeout 240m -v -run '^TestG6' . | grep -vE '^ *(---|===) +(PASS|RUN)'

prove-mutants: clients-install ## Known mistakes (allinone/e2e/mutants), one after the other: the test of each must find it
	allinone/e2e/mutants.sh $(MUTANTS)

.PHONY: scan
scan: build clients-install ## Debian and Alpine images scanned with a database that Berth itself has: report, GraphQL, SBOM, gate, event, kill of the scanner
	$(E2E) -v -run '^TestScan$$'

.PHONY: mirror-clients
mirror-clients: build clients-install ## Docker, containerd, podman, skopeo and crane through a mirror, with its upstreams up and gone; the guide's mirrors and exercise
	$(E2E) -v -run '^TestMirror(Clients|Guide)$$'

FORWARD_PUSHES ?= 1000
.PHONY: prove-canary
prove-canary: build clients-install ## Secrets of all kinds go through the programs, logging all they can: none may be in logs, audit log, metrics, traces or the shown configuration
	$(E2E) -v -run '^Test(Leak|ProgramThatTellsSecrets|Auth.*|Tokens|Trust|API.*|Search|Scan|Guide|Mirror(Clients|Guide)|ClientsOfReplicas|G11PostgresRestarts)$$'

SCAN_KILLS ?= 100
.PHONY: prove-scan-kill scan-bench
prove-scan-kill: ## A scanner is killed SCAN_KILLS (100) times while it scans and takes databases: nothing is left, all images come to what is in them; SCAN_SEED repeats a run
	SCAN_KILLS=$(SCAN_KILLS) go test -count=1 -timeout 60m -v -run '^TestS136Kills$$' ./services/scanner

.PHONY: prove-trivy
prove-trivy: ## The scanner and Trivy's own parsers read the same files: this machine's (or those below PROVE_TRIVY) and the samples of the parsers
	GOWORK=off GOEXPERIMENT=jsonv2 go -C services/scanner/trivy test -count=1 -timeout 20m -v .

scan-bench: ## What scanning an image of 90 MB costs of CPU and memory, and looking 1,000 images up in a new database
	go test -count=1 -timeout 20m -tags bench -v -run '^TestBench' ./services/scanner

.PHONY: prove-forward
prove-forward: ## FORWARD_PUSHES (1000) pushes passed on over connections that break at random bytes while the syncer ends: order, and each once; FORWARD_SEED repeats a run
	FORWARD_PUSHES=$(FORWARD_PUSHES) go test -count=1 -timeout 60m -v -run '^TestForward' ./allinone

MIRROR_KILLS ?= 60
SYNCER_KILLS ?= 20
.PHONY: prove-mirror-links prove-mirror-kill prove-two-syncers
prove-mirror-links: build ## 100 clients on a cold blob of 1 GiB over 100 Mbit/s, and 256 MiB over 10 Mbit/s with loss, 20 cuts and 10 kills (root; 10 minutes)
	LINK_MIB=1024 $(E2E) -v -run '^TestMirrorLink$$'
	LINK_MIB=256 LINK_CUTS=20 LINK_KILLS=10 $(E2E) -v -run '^TestMirrorBrokenLink$$'

prove-mirror-kill: build packages ## kill -9 of syncer, gateway and blobstore in turn while a blob is fetched, over PostgreSQL and S3: MIRROR_KILLS (60) times
	MIRROR_KILLS=$(MIRROR_KILLS) $(E2E) -v -run '^TestMirrorKill$$'

prove-two-syncers: build packages ## kill -9 of the one of two syncers that fetches, with two of each program, while it passes pushes on and is told of others: SYNCER_KILLS (20) times
	SYNCER_KILLS=$(SYNCER_KILLS) $(E2E) -v -run '^TestMirrorTwoSyncers$$'

MIRROR_FILLS ?= 300
.PHONY: prove-mirror
prove-mirror: ## MIRROR_FILLS (300) blobs through a mirror whose upstream breaks off, fails and lies while the process ends; MIRROR_SEED repeats a run
	MIRROR_FILLS=$(MIRROR_FILLS) go test -count=1 -timeout 60m -v -run '^Test(G16|P9|P100|Resume|S078|S095)' ./services/syncer ./services/syncer/upstream

N ?= 5000
s3-faults: clients-install ## Operations on S3 while its requests fail: N (5000) times, S3_SEED repeats a run
	S3_FAULTS=$(N) go test -count=1 -timeout 120m ./services/blobstore/s3 -v -run '^TestG13$$'

GENERATED_MANIFESTS ?= 1000000
SEARCH_IMAGES ?= 10000
search-times: ## Searches of SEARCH_IMAGES (10,000) images, both databases: medians
	SEARCH_IMAGES=$(SEARCH_IMAGES) go test -count=1 -timeout 20m -v -run '^TestSearchTimes$$' ./services/metadata

generated-rows: ## Reads of GENERATED_MANIFESTS (1 M) manifests and ten times as many links, both databases: p50, p99
	GENERATED_MANIFESTS=$(GENERATED_MANIFESTS) go test -count=1 -timeout 120m -v -run '^TestGeneratedRows$$' ./services/metadata

slow: build ## 1 GiB at 1 MB/s in both directions through every topology, at once (20 minutes)
	go test -tags e2e,slow -count=1 -parallel 16 -timeout 60m ./allinone/e2e -v -run '^TestSlow$$'

MEMORY_MB ?= 100
memory: berth berth-edge ## 32 parallel pushes and pulls of MEMORY_MB (100) in a cgroup of 64 MiB, and without
	MEMORY_MB=$(MEMORY_MB) go test -tags e2e,memory -count=1 -timeout 60m ./allinone/e2e -v -run '^TestMemory$$'

bench: build clients-install ## Figures against peers in the same run; BENCH_SHORT=1 for less, BENCH_UPDATE=1 writes docs, BENCH_ATTEMPTS (5)
	go test -tags bench -count=1 -timeout 60m ./allinone/e2e -v -run '^TestBench$$'

CONFIG ?= bin/data.json
fsck: berth ## Check the stopped store of CONFIG (default: ./data, as `make run` leaves it)
	@[ "$(CONFIG)" != bin/data.json ] || echo '{"storage": {"rootDirectory": "data"}}' >bin/data.json
	./bin/berth fsck $(CONFIG)

.PHONY: packages clients-install
packages: ## Install the Debian packages that tests and figures use, where they are missing
	@allinone/e2e/install.sh packages

clients-install: ## Install the clients that the end-to-end tests drive (cached)
	@allinone/e2e/install.sh

## ---- source ----

.PHONY: tools googleapis lint generate breaking check
tools: $(TOOLS)/.stamp ## Install the pinned generators and linters into .bin

$(TOOLS)/.stamp: tools/go.mod tools/go.sum
	GOBIN=$(TOOLS) GOWORK=off go -C tools install tool
	touch $@

# The annotations of api.proto are declared in files of Google's that no Go tool
# carries. This module of the proxy does, and go.sum pins it.
googleapis:
	@dir=$$(GOWORK=off go -C tools/googleapis mod download -json github.com/grpc-ecosystem/grpc-gateway | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
	mkdir -p .googleapis/google/api
	install -m 644 "$$dir"/third_party/googleapis/google/api/{annotations,http}.proto .googleapis/google/api/

lint: tools googleapis ## golangci-lint (gofmt, vet, staticcheck, import rules, ...), buf lint, shell syntax, whether the mutants fit
	golangci-lint run $(PKGS)
	buf lint
	for s in .ci/run allinone/e2e/*.sh deploy/*.sh deploy/k8s/*.sh; do bash -n $$s; done
	for p in allinone/e2e/mutants/*.patch; do git apply --check -C1 --recount $$p || exit 1; done

generate: tools googleapis ## Regenerate proto/gen, the OpenAPI document and docs/configuration.md
	buf generate
	buf generate --template buf.gen.openapi.yaml
	go generate ./registry/...

.PHONY: generate-diff
generate-diff: tools ## Fail when the committed generated files are not what `make generate` writes
	@old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT
	cp -r proto/gen registry/rpc/rest/openapi docs/configuration.md "$$old/"
	$(MAKE) --no-print-directory generate
	diff -r "$$old/gen" proto/gen
	diff -r "$$old/openapi" registry/rpc/rest/openapi
	diff "$$old/configuration.md" docs/configuration.md

# The commit that the wire contracts must still be compatible with.
AGAINST ?= HEAD~1
breaking: tools googleapis ## Fail when a client of commit AGAINST (HEAD~1) would not understand the protos any more
	@git rev-parse --verify --quiet '$(AGAINST)^{commit}' >/dev/null || { echo "NOT RUN: no commit $(AGAINST) in this clone"; exit 0; }
	old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT
	git archive '$(AGAINST)' proto buf.yaml | tar -x -C "$$old"
	cp -r .googleapis "$$old/"
	buf breaking --against "$$old"
	echo "compatible with $$(git rev-parse --short '$(AGAINST)')"

check: lint generate-diff breaking ## What a change must pass: lint, generate-diff, breaking, modules, test, size
	$(MAKE) modules
	$(MAKE) test
	$(MAKE) size
