# `make help` lists the targets. Everything is built below target/ and host/web/; what is shipped is put together in dist/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ARCH := $(shell uname -m)
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
DIST := $(abspath dist)
PLUGINS := backend_local agent_shell
SHIPPED := berth-host berth-backend-local berth-agent-shell
KEEPER := $(TARGET_DIR)/keeper/berth-keeper
WEB_SOURCES := $(shell find host/web -path host/web/node_modules -prune -o -path host/web/dist -prune -o -type f -print 2>/dev/null)
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build everything and start the server on http://127.0.0.1:3030 (ARGS="--listen …" for flags)
	@exec $(DIST)/bin/berth serve $(ARGS)

.PHONY: build
build: setup-build web keeper ## build host, plugins, keeper and page into dist/
	cargo build --release $(addprefix -p ,$(SHIPPED))
	@$(call lay-out,release,$(DIST))

# lay-out PROFILE FOLDER: puts what cargo built together as it is shipped.
define lay-out
install -D -m 755 $(TARGET_DIR)/$(1)/berth $(2)/bin/berth
install -D -m 755 $(KEEPER) $(2)/lib/berth/keeper/$(ARCH)/berth-keeper
for plugin in $(PLUGINS); do \
    install -D -m 755 $(TARGET_DIR)/$(1)/libberth_$$plugin.so $(2)/lib/berth/plugins/libberth_$$plugin.so; \
done
endef

.PHONY: web
web: host/web/dist/index.html ## build the web page

host/web/node_modules/.installed: host/web/package.json host/web/package-lock.json
	npm --prefix host/web ci --no-audit --no-fund --loglevel=error
	@touch $@

host/web/dist/index.html: host/web/node_modules/.installed $(WEB_SOURCES)
	npm --prefix host/web run --silent build
	@touch $@

.PHONY: keeper
keeper: ## build the keeper, the static program inside every session
	@keeper/build $(dir $(KEEPER))

.PHONY: test
test: setup-test web keeper ## install what the tests need and run all of them
	cargo build --workspace
	BERTH_KEEPER=$(KEEPER) cargo test --workspace --no-fail-fast
	npm --prefix host/web test
	npm --prefix tests/browser ci --no-audit --no-fund --loglevel=error
	BERTH_KEEPER=$(KEEPER) BERTH_TARGET_DIR=$(TARGET_DIR)/debug npm --prefix tests/browser test
	@$(call lay-out,debug,$(TARGET_DIR)/debug/dist)
	tests/openapi/run $(TARGET_DIR)/debug/dist

.PHONY: check
check: setup-build web ## the inner loop: format, lints, unit tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib

.PHONY: bench
bench: build ## measure berth beside its peers; figures go to docs/performance.md
	cargo run --release -p berth-bench -- --dist $(DIST) $(ARGS)

.PHONY: soak
soak: setup-test web keeper ## the long form of the kill -9 test
	cargo build --workspace
	BERTH_KEEPER=$(KEEPER) BERTH_SOAK=1 cargo test -p berth-tests -- soak --nocapture

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf dist host/web/dist host/web/node_modules tests/browser/node_modules

.PHONY: setup-build setup-test
setup-build:
	@setup/install build
setup-test:
	@setup/install test
