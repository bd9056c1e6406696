# make run        the demo: real files through the real line, then three answers and three commands to try
# make test       everything: format, lints, docs, units, suites, properties, end to end, a slice of each campaign
# make bench      one table: the line beside its peers on the same files (BENCH="--only line" for a part of it)
# make bench-kafka   the log on Kafka beside Kafka's own tools, the line over Kafka beside the embedded one, on servers that it starts itself
# make campaign   every campaign with its full count; needs root, for disks that fill and lose their power
# make backends   the suites of the ports alone, on a real Kafka, a real Cassandra and a server of S3, which they start themselves
# make cluster    the campaign on such servers with its full count: processes that share the work are killed, paused, moved to
# make demo-cluster   the demo on a Kafka, a Cassandra and a server of S3, which it starts itself
# make client     a TypeScript client generated from the server's OpenAPI file, compiled, and run against a server
# make fit        the matcher's constants, cross-validated and fitted anew (DATA=folder of the gold sets and their scorer)
# make lint       clippy, rustfmt and what stands in docker/;  make docs   the documentation, without warnings

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
export CARGO_NET_RETRY ?= 10
export PYTHONDONTWRITEBYTECODE := 1
VENV := $(CACHE)/venv
NPM := $(CACHE)/client
PYTHON := $(VENV)/bin/python
STAMPS := $(CACHE)/stamps
BIN := $(CARGO_TARGET_DIR)/debug
SEED ?= 1
DEMO := $(CACHE)/demo
BENCH ?=
DATA ?=

say = printf '\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help checkout run test backends cluster demo-cluster bench bench-kafka fit campaign client lint docs system system-test venv npm programs plant null-profiler unit end-to-end slice full-count positive-control

help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST)) | sed -n '/^make/p'

# -- set-up: each step is quick once it is done ------------------------------------------------------------------------

# Does something, and up to twice more where it fails: what comes from elsewhere may not come at the first try.
again = again() { "$$@" || { sleep 5; "$$@"; } || { sleep 30; "$$@"; }; }

# Installs with apt-get what is missing and nothing else.
install = $(again); if [ $${\#missing[@]} -gt 0 ]; then \
	  $(call say,installing $${missing[*]} with apt-get); \
	  as_root=(); [ "$$(id -u)" = 0 ] || as_root=(sudo); \
	  again "$${as_root[@]}" apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive again "$${as_root[@]}" apt-get install -y -qq --no-install-recommends "$${missing[@]}"; \
	fi

# Cargo names what it builds alike in all checkouts, and tells by times alone whether it is up to date: files here that are older
# than a build of another checkout would be taken for built.
checkout:
	@mkdir -p $(CARGO_TARGET_DIR)
	if [ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" != "$(CURDIR)" ]; then
	  find . \( -name .git -o -name node_modules -o -path ./target \) -prune -o -type f -exec touch -c {} +
	  echo "$(CURDIR)" > $(CARGO_TARGET_DIR)/checkout
	fi

# What building and running need.
system: checkout
	@missing=()
	command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || missing+=(build-essential)
	command -v pkg-config >/dev/null || missing+=(pkg-config)
	pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
	command -v git >/dev/null || missing+=(git)
	if ! command -v cargo >/dev/null; then echo "cargo is not installed: see https://rustup.rs" >&2; exit 1; fi
	$(install)

# What tests and benches need besides.
system-test: system
	@missing=()
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
	command -v npm >/dev/null || missing+=(nodejs npm)
	command -v curl >/dev/null || missing+=(curl)
	if [ "$$(id -u)" = 0 ]; then
	  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
	  command -v mount >/dev/null && command -v losetup >/dev/null || missing+=(mount)
	else
	  echo "not root: the campaigns powercut and full_disk, which mount file systems, are left out"
	fi
	$(install)
	missing=()
	command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
	command -v mvn >/dev/null || missing+=(maven)
	if ! { $(install); }; then
	  [ -z "$${CAMPAIGN_REQUIRED:-}" ] || exit 1
	  echo "no JDK or no Maven: the suites on Kafka, Cassandra and S3 are skipped"
	fi
	for component in fmt:rustfmt clippy:clippy; do
	  if ! cargo "$${component%:*}" --version >/dev/null 2>&1; then
	    if ! command -v rustup >/dev/null; then
	      echo "cargo $${component%:*} is missing: install Rust's component $${component#*:}" >&2; exit 1
	    fi
	    $(call say,adding the Rust component $${component#*:})
	    again rustup component add "$${component#*:}"
	  fi
	done

# The Python packages that check us from outside; made anew when the list of them changes.
venv: system-test
	@$(again)
	wanted=$$(sha256sum benches/requirements.txt | cut -d' ' -f1)
	mkdir -p $(STAMPS)
	if [ "$$(cat $(STAMPS)/venv 2>/dev/null)" != "$$wanted" ] || [ ! -x $(PYTHON) ]; then
	  $(call say,installing the Python packages of benches/requirements.txt (about a minute))
	  python3 -m venv $(VENV)
	  again $(PYTHON) -m pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	  echo "$$wanted" > $(STAMPS)/venv
	fi

# What generates and compiles the client, by its lock file; made anew when that changes.
npm: system-test
	@$(again)
	wanted=$$(cat api/client/package.json api/client/package-lock.json | sha256sum | cut -d' ' -f1)
	mkdir -p $(STAMPS) $(NPM)
	if [ "$$(cat $(STAMPS)/npm 2>/dev/null)" != "$$wanted" ] || [ ! -x $(NPM)/node_modules/.bin/tsc ]; then
	  $(call say,installing the packages of api/client/package-lock.json)
	  cp api/client/package.json api/client/package-lock.json $(NPM)
	  again npm ci --prefix $(NPM) --no-audit --no-fund --silent
	  echo "$$wanted" > $(STAMPS)/npm
	fi

# The features of every dependency are the same for one crate, the workspace and its tests, so nothing is built twice.
programs: system
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 30 minutes on two cores)); fi
	cargo build --locked --workspace --bins

# -- the two commands --------------------------------------------------------------------------------------------------

run: system
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 30 minutes on two cores)); fi
	cargo build --locked -p api --bin autonomos
	$(call say,demo in $(DEMO))
	exec $(BIN)/autonomos demo --data-dir "$(DEMO)" --seed $(SEED)

test: system-test venv
	@started=$$SECONDS
	$(call say,1/5 format)
	cargo fmt --all --check
	$(call say,2/5 units and suites and properties and end to end)
	$(MAKE) unit
	$(call say,3/5 the programs)
	$(MAKE) programs
	$(call say,4/5 end to end from outside and a slice of each campaign)
	$(MAKE) end-to-end slice client
	$(call say,5/5 lints and documentation)
	$(MAKE) lint docs
	$(call say,all tests passed in $$((SECONDS - started)) s)

unit:
	@if [ ! -x $(BIN)/autonomos ]; then $(call say,building (the first time it takes some 30 minutes on two cores)); fi
	cargo test --locked --workspace --no-fail-fast

# The ports on real servers alone; `unit` runs them with everything else. Here none is skipped.
backends: system-test
	@CAMPAIGN_REQUIRED=1 cargo test --locked --workspace --test conformance --test view

cluster: programs venv
	@CAMPAIGN_REQUIRED=1 $(PYTHON) benches/campaign/cluster.py --seed $(SEED)

demo-cluster: system-test programs
	@$(call say,demo in $(DEMO)-cluster)
	exec python3 benches/campaign/servers.py $(BIN)/autonomos demo --data-dir "$(DEMO)-cluster" --seed $(SEED)

# -- campaigns: the same programs, a few cycles in `make test`, the full count here ------------------------------------

end-to-end: programs venv
	@$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 100000 --keys 10000

client: programs npm
	@python3 benches/campaign/client.py --tools $(NPM)

# What is measured by the clock has more of it here: this machine may be slow, and have much else to do.
slice: programs venv
	@$(PYTHON) benches/campaign/kill9.py --seed $(SEED) --count 12
	$(PYTHON) benches/campaign/drift.py --seed $(SEED) --count 5
	$(PYTHON) benches/campaign/walk.py --seed $(SEED)
	$(PYTHON) benches/campaign/steady.py --seed $(SEED) --records 50000 --slower 50
	$(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 2
	$(PYTHON) benches/campaign/full_disk.py --seed $(SEED) --count 2
	$(PYTHON) benches/campaign/idle_tenants.py --count 30
	$(PYTHON) benches/campaign/isolation.py --seed $(SEED) --count 300
	$(PYTHON) benches/campaign/contract.py --seed $(SEED) --calls 800
	$(PYTHON) benches/campaign/neighbours.py --seed $(SEED)
	$(PYTHON) benches/campaign/abuse.py --seed $(SEED) --slower 10
	$(PYTHON) benches/campaign/live.py --seed $(SEED) --count 3
	$(PYTHON) benches/campaign/cluster.py --seed $(SEED) --only crew,demo --records 40000 --keys 4000 --kills 4 --broker-kills 1
	$(PYTHON) benches/bench.py --seed $(SEED) --quick
	$(PYTHON) benches/doors.py --seed $(SEED) --quick

campaign: export CAMPAIGN_REQUIRED := 1
campaign: full-count cluster positive-control

full-count: programs venv
	@$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 1000000 --keys 100000
	$(PYTHON) benches/campaign/exact.py --seed $(SEED) --records 1200000 --keys 1000000
	$(PYTHON) benches/campaign/kill9.py --seed $(SEED) --count 200
	$(PYTHON) benches/campaign/drift.py --seed $(SEED) --count 100
	$(PYTHON) benches/campaign/walk.py --seed $(SEED)
	$(PYTHON) benches/campaign/steady.py --seed $(SEED) --records 1000000
	$(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 20
	$(PYTHON) benches/campaign/full_disk.py --seed $(SEED) --count 10
	$(PYTHON) benches/campaign/idle_tenants.py --count 1000
	$(PYTHON) benches/campaign/isolation.py --seed $(SEED) --count 10000
	$(PYTHON) benches/campaign/contract.py --seed $(SEED) --calls 6000
	$(PYTHON) benches/campaign/neighbours.py --seed $(SEED) --rounds 5
	$(PYTHON) benches/campaign/abuse.py --seed $(SEED)
	$(PYTHON) benches/campaign/live.py --seed $(SEED) --count 50

# A build that acknowledges before the fsync must be found out.
positive-control: plant programs venv
	@AUTONOMOS_BIN=$(BIN)/autonomos-plant $(PYTHON) benches/campaign/powercut.py --seed $(SEED) --count 20 --plant

# A build with a fault in it, under a name of its own. The features of a crate are part of its file's name, so both builds
# stand side by side in the target folder, and putting the sound one back under its name compiles nothing.
plant: system
	@trap 'cargo build --locked -p api --bin autonomos' EXIT
	cargo build --locked -p api --bin autonomos --features plant
	mv $(BIN)/autonomos $(BIN)/autonomos-plant

# A build that looks for no drift, in the same way.
null-profiler: system
	@trap 'cargo build --locked -p api --bin autonomos' EXIT
	cargo build --locked -p api --bin autonomos --features null-profiler
	mv $(BIN)/autonomos $(BIN)/autonomos-null-profiler

# The matcher itself prints the signals that it is fitted by, so that each is defined once.
fit: system-test
	@test -n "$(DATA)" || { echo "say DATA=FOLDER, with crm_mapping.json, drift_real.json and score.py" >&2; exit 1; }
	cargo build --locked -p matcher --bin matcher
	[ -x $(CACHE)/fit/bin/python ] || python3 -m venv $(CACHE)/fit
	$(CACHE)/fit/bin/python -m pip install --quiet --disable-pip-version-check -r pipeline/matcher/fit/requirements.txt
	$(CACHE)/fit/bin/python pipeline/matcher/fit/fit.py "$(DATA)" $(BIN)/matcher --folds --write

bench: null-profiler programs venv
	@$(PYTHON) benches/bench.py --seed $(SEED) $(BENCH)
	[ -n "$(BENCH)" ] || $(PYTHON) benches/doors.py --seed $(SEED)

bench-kafka: programs venv
	@CAMPAIGN_REQUIRED=1 $(PYTHON) benches/kafka.py --seed $(SEED) $(BENCH)

# -- care --------------------------------------------------------------------------------------------------------------

lint: system-test venv
	@cargo fmt --all --check
	$(PYTHON) docker/check.py
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: system
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
