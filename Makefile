# make run        the demo: real files through the real line, then three answers and three commands to try
# make test       everything: format, units, suites, properties, end to end, a slice of each campaign
# make bench      one table: the line beside its peers on the same files
# make campaign   every campaign with its full count
# make lint       clippy and rustfmt;  make docs   the documentation, without warnings

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

CACHE := $(HOME)/.cache/autonomos
# All checkouts share what was built once.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TERM_COLOR ?= always
export PYTHONDONTWRITEBYTECODE := 1
VENV := $(CACHE)/venv
PYTHON := $(VENV)/bin/python
STAMPS := $(CACHE)/stamps
BIN := $(CARGO_TARGET_DIR)/debug
SEED ?= 1
DEMO := $(CACHE)/demo

say = printf '\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help run test bench campaign lint docs system venv programs unit end-to-end slice

help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST)) | sed -n '/^make/p'

# -- set-up: each step is quick once it is done ------------------------------------------------------------------------

# Installs what is missing and nothing else.
system:
	@missing=()
	command -v cc >/dev/null || missing+=(build-essential)
	command -v git >/dev/null || missing+=(git)
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
	if ! command -v cargo >/dev/null; then echo "cargo is not installed: see https://rustup.rs" >&2; exit 1; fi
	if [ $${#missing[@]} -gt 0 ]; then
	  $(call say,installing $${missing[*]} with apt-get)
	  as_root=(); [ "$$(id -u)" = 0 ] || as_root=(sudo)
	  "$${as_root[@]}" apt-get update -qq
	  DEBIAN_FRONTEND=noninteractive "$${as_root[@]}" apt-get install -y -qq --no-install-recommends "$${missing[@]}"
	fi

# The Python packages that check us from outside; made anew when the list of them changes.
venv: system
	@wanted=$$(sha256sum benches/requirements.txt | cut -d' ' -f1)
	mkdir -p $(STAMPS)
	if [ "$$(cat $(STAMPS)/venv 2>/dev/null)" != "$$wanted" ] || [ ! -x $(PYTHON) ]; then
	  $(call say,installing the Python packages of benches/requirements.txt (about a minute))
	  python3 -m venv $(VENV)
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	  echo "$$wanted" > $(STAMPS)/venv
	fi

# The features of every dependency are the same for one crate, the workspace and its tests, so nothing is built twice.
programs: system
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 20 minutes on two cores)); fi
	cargo build --locked --workspace --bins

# -- the two commands --------------------------------------------------------------------------------------------------

run: system
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 20 minutes on two cores)); fi
	cargo build --locked -p api --bin autonomos
	$(call say,demo in $(DEMO))
	exec $(BIN)/autonomos demo --data-dir "$(DEMO)" --seed $(SEED)

test: system venv
	@started=$$SECONDS
	$(call say,1/4 format)
	cargo fmt --all --check
	$(call say,2/4 units and suites and properties and end to end)
	$(MAKE) unit
	$(call say,3/4 the programs)
	$(MAKE) programs
	$(call say,4/4 end to end from outside and a slice of each campaign)
	$(MAKE) end-to-end slice
	$(call say,all tests passed in $$((SECONDS - started)) s)

unit:
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 20 minutes on two cores)); fi
	cargo test --locked --workspace

# -- campaigns: the same programs, a few cycles in `make test`, the full count here ------------------------------------

end-to-end: programs venv
	@$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 100000 --keys 10000

slice: programs venv
	@$(PYTHON) benches/campaign/kill9.py --seed $(SEED) --count 12 --deep-every 3
	$(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 2
	$(PYTHON) benches/campaign/full_disk.py --seed $(SEED) --count 1
	$(PYTHON) benches/campaign/isolation.py --seed $(SEED) --count 300

campaign: programs venv
	@$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 1000000 --keys 100000
	$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 1200000 --keys 1000000
	$(PYTHON) benches/campaign/kill9.py --seed $(SEED) --count 200
	CAMPAIGN_REQUIRED=1 $(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 20
	CAMPAIGN_REQUIRED=1 $(PYTHON) benches/campaign/full_disk.py --seed $(SEED) --count 10
	$(PYTHON) benches/campaign/idle_tenants.py --count 1000
	$(PYTHON) benches/campaign/isolation.py --seed $(SEED) --count 10000
	$(call say,the positive control: a build that acknowledges before the fsync)
	cargo build --locked -p api --bin autonomos --features plant
	mv $(BIN)/autonomos $(BIN)/autonomos-plant
	cargo build --locked -p api --bin autonomos
	AUTONOMOS_BIN=$(BIN)/autonomos-plant CAMPAIGN_REQUIRED=1 \
	  $(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 20 --plant

bench: programs venv
	@$(PYTHON) benches/bench.py --seed $(SEED)

# -- care --------------------------------------------------------------------------------------------------------------

lint: system
	@cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: system
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
