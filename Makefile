# `make` lists what there is. Everything that a target makes lives under .tavia/.

PYTHON ?= python3
VENV := .tavia/venv
INSTALLED := $(VENV)/.installed
BIN := $(VENV)/bin
export DEBIAN_FRONTEND := noninteractive

.DEFAULT_GOAL := help
.PHONY: help up down test lint bench-local clean debian wrk

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(INSTALLED) ## Install what is missing, start Tavia on this machine, show it at work
	@$(BIN)/tavia up
	@$(BIN)/tavia demo

down: ## Stop Tavia and remove all that it made; what was installed stays
	@if [ -x $(BIN)/tavia ]; then $(BIN)/tavia down; else echo "Tavia was never installed here: nothing to stop."; fi

test: $(INSTALLED) ## Install what is missing, run all tests
	@echo "==> tests: real HAProxy, keepalived, TLS and network namespaces"
	@$(BIN)/pytest

lint: $(INSTALLED) ## Check style, formatting, types and layers
	@echo "==> style";      $(BIN)/ruff check --quiet
	@echo "==> formatting"; $(BIN)/ruff format --check --quiet
	@echo "==> types";      $(BIN)/mypy --no-error-summary
	@echo "==> layers";     $(BIN)/lint-imports --no-logo > .tavia/layers.log || { cat .tavia/layers.log; exit 1; }

bench-local: $(INSTALLED) wrk ## Measure this machine: how fast changes apply, outages, memory, throughput; ARGS=--help
	@$(BIN)/python -m bench.local $(ARGS)

clean: down ## As down, and remove what was installed for Python too
	@rm -rf .tavia .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis src/*.egg-info

# The Python packages, at the versions of constraints.txt; again when those or pyproject.toml changed.
$(INSTALLED): pyproject.toml constraints.txt | debian
	@echo "==> Python packages into $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e ".[agent,controller,dev]"
	@touch $@

# The Debian packages, each known by a program of it.
debian:
	@missing=""; \
	need() { command -v "$$1" > /dev/null || missing="$$missing $$2"; }; \
	PATH="$$PATH:/usr/sbin:/sbin"; \
	need haproxy haproxy; need keepalived keepalived; need ip iproute2; need nft nftables; need arping iputils-arping; \
	need nsenter util-linux; need ps procps; \
	$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || missing="$$missing python3-venv"; \
	[ -z "$$missing" ] && exit 0; \
	echo "==> Debian packages:$$missing"; \
	[ "$$(id -u)" = 0 ] || { echo "Installing them needs root: apt-get install$$missing" >&2; exit 1; }; \
	mkdir -p .tavia; \
	{ apt-get -qq update && apt-get -qq install --no-install-recommends $$missing; } > .tavia/debian.log 2>&1 \
		|| { cat .tavia/debian.log >&2; exit 1; }

# Only the bench sends more requests than Python can.
wrk: debian
	@command -v wrk > /dev/null || apt-get -qq install --no-install-recommends wrk > .tavia/debian.log 2>&1 \
		|| { cat .tavia/debian.log >&2; exit 1; }
