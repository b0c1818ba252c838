# `make` lists what there is. Everything that a target makes lives under .tavia/.

PYTHON ?= python3
VENV := .tavia/venv
INSTALLED := $(VENV)/.installed
CLUSTER := $(VENV)/.installed-cluster
BIN := $(VENV)/bin
OCTAVIA := .tavia/octavia-venv/.installed
export DEBIAN_FRONTEND := noninteractive
# Where Python is told to keep no compiled files, every process of a test would compile all again.
unexport PYTHONDONTWRITEBYTECODE

# Of pytest: most tests wait most of the time.
PROCESSES ?= 2
CHECK_PROCESSES ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help up down check test test-cloud test-image mutants lint image image-upload bench-local bench-octavia bench-cloud clean debian servers wrk image-tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(INSTALLED) ## Install what is missing, start Tavia on this machine, show it at work
	@$(BIN)/tavia up
	@$(BIN)/tavia demo

down: ## Stop Tavia and remove all that it made; what was installed stays
	@if [ -x $(BIN)/tavia ]; then $(BIN)/tavia down; else echo "Tavia was never installed here: nothing to stop."; fi

check: $(CLUSTER) lint ## What to run after each change, three minutes: lint, then the tests that start nothing large
	@echo "==> tests: unit, api"
	@$(BIN)/pytest -n $(CHECK_PROCESSES) -m "not large" --hypothesis-profile quick tests/unit tests/api $(ARGS)

test: $(CLUSTER) ## Install what is missing, run the tests, but for those on a real OpenStack and of the image
	@echo "==> tests: real HAProxy, keepalived, TLS, network namespaces, MariaDB, RabbitMQ and Keystone"
	@$(BIN)/pytest -n $(PROCESSES) $(ARGS)

test-cloud: $(CLUSTER) image ## Test on a real OpenStack: of ../shared/cloud, or the one that OS_CLOUD names; ARGS="-m smoke"
	@echo "==> tests on a real OpenStack"
	@$(BIN)/pytest tests/cloud $(ARGS)

test-image: image ## Test the amphora image in qemu, without a cloud
	@$(BIN)/pytest tests/image $(ARGS)

mutants: $(CLUSTER) ## Change the code in one thing at a time and show what no test noticed: hours; ARGS=plan.py: one file
	@PYTHONPATH=tests/support $(BIN)/python -m mutants $(ARGS)

lint: $(INSTALLED) ## Check style, formatting, types and layers
	@echo "==> style";      $(BIN)/ruff check --quiet
	@echo "==> formatting"; $(BIN)/ruff format --check --quiet
	@echo "==> types";      $(BIN)/mypy --no-error-summary
	@echo "==> layers";     $(BIN)/lint-imports --no-logo > .tavia/layers.log || { cat .tavia/layers.log; exit 1; }

image: $(INSTALLED) image-tools ## Make the amphora image for OpenStack, again when what it is made of changed; FRESH=1: in any case
	@deploy/image/build $(if $(FRESH),--fresh)

image-upload: image ## Upload it to the Glance of OS_CLOUD, with the tag amphora; ARGS=--kernel: kernel and initrd apart
	@$(BIN)/python deploy/image/upload.py $(ARGS)

bench-local: $(INSTALLED) wrk ## Measure this machine: how fast changes apply, outages, memory, throughput; ARGS=--help
	@$(BIN)/python -m bench.local $(ARGS)

bench-octavia: $(CLUSTER) $(OCTAVIA) ## Measure Tavia against the real Octavia 19 in one run, without guests; ARGS=--help
	@PYTHONPATH=tests/support $(BIN)/python -m bench.octavia $(ARGS)

bench-cloud: $(CLUSTER) image ## Measure Tavia on a real OpenStack: where the time of a boot goes, outages, calls; ARGS=--help
	@PYTHONPATH=tests/support $(BIN)/python -m bench.cloud $(ARGS)

clean: down ## As down, and remove what was installed for Python too
	@rm -rf .tavia .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis src/*.egg-info

# The Python packages, at the versions of constraints.txt; again when those or pyproject.toml changed.
$(INSTALLED): pyproject.toml constraints.txt | debian
	@echo "==> Python packages into $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e ".[agent,controller,dev]"
	@touch $@

# The servers that a cloud has, for the tests: Keystone among the Python packages, the others Debian's.
$(CLUSTER): $(INSTALLED) | servers
	@echo "==> Keystone into $(VENV)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e ".[cluster]"
	@touch $@

# Octavia, only to measure against: in a virtual environment of its own, its versions are not Tavia's.
$(OCTAVIA): bench/octavia-constraints.txt | debian
	@echo "==> Octavia into $(@D)"
	@[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -qq --disable-pip-version-check -c bench/octavia-constraints.txt octavia gunicorn PyMySQL
	@touch $@

# Debian packages, each known by a program of it: $(call install,program=package ...). Services are not started.
define install
@missing=""; PATH="$$PATH:/usr/sbin:/sbin"; \
for pair in $(1); do command -v "$${pair%%=*}" > /dev/null || missing="$$missing $${pair#*=}"; done; \
[ -n "$$missing" ] || exit 0; \
echo "==> Debian packages:$$missing"; \
[ "$$(id -u)" = 0 ] || { echo "Installing them needs root: apt-get install$$missing" >&2; exit 1; }; \
mkdir -p .tavia; policy=/usr/sbin/policy-rc.d; \
[ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; trap "rm -f $$policy" EXIT; }; \
{ apt-get -qq update && apt-get -qq install --no-install-recommends $$missing; } > .tavia/debian.log 2>&1 \
	|| { cat .tavia/debian.log >&2; exit 1; }
endef

debian:
	$(call install,haproxy=haproxy keepalived=keepalived ip=iproute2 nft=nftables arping=iputils-arping \
		nsenter=util-linux ps=procps \
		$(shell $(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || echo no-venv=python3-venv))

servers: debian
	$(call install,mariadbd=mariadb-server galera_new_cluster=galera-4 rsync=rsync rabbitmq-server=rabbitmq-server \
		memcached=memcached promtool=prometheus sqlite3=sqlite3 ping=iputils-ping)

# Only the bench sends more requests than Python can.
wrk: debian
	$(call install,wrk=wrk)

# The amphora image is made on plain files, and booted by its test.
image-tools: debian
	$(call install,mmdebstrap=mmdebstrap qemu-img=qemu-utils mke2fs=e2fsprogs sfdisk=fdisk mformat=mtools \
		grub-mkimage=grub-pc-bin grub-mkimage=grub-efi-amd64-bin qemu-system-x86_64=qemu-system-x86 genisoimage=genisoimage \
		$(shell [ -e /usr/share/ovmf/OVMF.fd ] || echo no-firmware=ovmf))
