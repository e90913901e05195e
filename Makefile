# beamprof. "make" alone builds; "make help" lists all targets.

GO ?= go
PREFIX ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOARCH ?= $(shell $(GO) env GOARCH)

.DEFAULT_GOAL := build

## Build bin/beamprof, a static binary for this architecture (GOARCH=arm64 for the other one)
.PHONY: build
build:
	@scripts/setup go
	CGO_ENABLED=0 GOARCH=$(GOARCH) $(GO) build -trimpath -buildvcs=false \
		-ldflags '-s -w -X main.version=$(VERSION)' -o bin/beamprof ./cmd/beamprof

## Install what is missing, run all tests (as root: against real VMs and the real kernel)
.PHONY: test
test:
	@scripts/test

## Install what is missing, profile a node of a two-node Erlang system and show what it did
.PHONY: demo
demo: build
	@scripts/demo

## Run the benchmarks that docs/performance.md tells of (as root)
.PHONY: bench
bench:
	@scripts/bench

## Send profiles to a real OpenTelemetry Collector and compare what it writes (builds one: a minute or two, once)
.PHONY: collector-test
collector-test:
	@scripts/collector-test

## Run beamprof on older kernels in QEMU (KERNELS="bullseye bookworm", or image files)
.PHONY: vm-test
vm-test:
	@scripts/vm/test $(KERNELS)

## Compile the BPF programs anew (installs clang if it is missing)
.PHONY: generate
generate:
	@scripts/generate

## Prove that the committed BPF objects are what their sources compile to
.PHONY: generate-check
generate-check:
	@scripts/generate --check

## Format all Go code
.PHONY: fmt
fmt:
	@scripts/format

## Say which Go files are not formatted
.PHONY: fmt-check
fmt-check:
	@scripts/format --check

## Look for mistakes: go vet for amd64 and arm64, staticcheck, shellcheck
.PHONY: lint
lint:
	@scripts/lint

## Check the Vagrantfile (installs vagrant if it is missing)
.PHONY: vagrant-validate
vagrant-validate:
	@scripts/setup vagrant
	vagrant validate --ignore-provider

## Install bin/beamprof below PREFIX (default /usr/local) and DESTDIR
.PHONY: install
install: build
	install -D -m 0755 bin/beamprof $(DESTDIR)$(PREFIX)/bin/beamprof

## Make a Debian package in dist/
.PHONY: deb
deb: build
	@scripts/deb $(VERSION) $(GOARCH)

## Remove what was built
.PHONY: clean
clean:
	rm -rf bin dist

## Show this help
.PHONY: help
help:
	@awk '/^## / { text = substr($$0, 4) } \
		/^[a-z-]+:/ && text { sub(/:.*/, ""); printf "  make %-18s %s\n", $$0, text; text = "" }' $(MAKEFILE_LIST)
