# mdmesh: `make` tells what there is to make.
#
# Node 24 comes as a package (node_modules/node-linux-*), and everything here runs with that one: the machine's own Node only
# has to be good enough for its npm.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

MACHINE := $(shell uname -m)
ARCH := $(if $(filter aarch64,$(MACHINE)),arm64,x64)
NODE := $(CURDIR)/node_modules/node-linux-$(ARCH)/bin/node
ADDON := native-addon/build/Release/mdmesh.node
# Written by npm at the end of a whole installation.
INSTALLED := node_modules/.package-lock.json
SOURCES := $(shell find src -type f 2>/dev/null)
ADDON_SOURCES := $(wildcard native-addon/*.cc native-addon/*.h native-addon/*.gyp native-addon/build.sh)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: packages
packages: ## system packages for the build and for the kernels of the lab tests (needs root and apt)
	@scripts/system_packages.sh

.PHONY: install
install: $(INSTALLED) ## npm packages, and the Node that everything runs with

# No package needs its install script here; what does not run cannot surprise.
$(INSTALLED): package-lock.json
	npm ci --ignore-scripts
	@test -x $(NODE) || { echo "make install: $(NODE) is missing; there is a runtime for x86_64 and aarch64 only, this is $(MACHINE)" >&2; exit 1; }
	@touch $@

.PHONY: addon
addon: $(ADDON) ## the native addon

$(ADDON): $(INSTALLED) $(ADDON_SOURCES)
	native-addon/build.sh
	@touch $@

.PHONY: build
build: out/mdmesh ## out/mdmesh: the program in one file, with addon and a script that starts it

out/mdmesh: $(INSTALLED) $(ADDON) $(SOURCES) scripts/bundle.ts scripts/bundling.ts scripts/compile.ts scripts/page_files.ts scripts/launcher.sh package.json
	$(NODE) scripts/bundle.ts out $(ADDON)

.PHONY: dist
dist: dist/mdmesh ## dist/mdmesh: the program as one file that needs no Node; checksums, bill of materials, licences

dist/mdmesh: $(INSTALLED) $(ADDON) $(SOURCES) $(wildcard scripts/*.ts) scripts/launcher.sh package.json
	@mkdir -p dist
	$(NODE) --no-warnings scripts/dist.ts dist $(ADDON)

.PHONY: deb
deb: dist ## dist/mdmesh_*.deb: the Debian package (needs debhelper)
	@scripts/deb.sh $(NODE)

.PHONY: test
test: ## everything: packages, build, lint, unit and native tests, then the lab on real kernels
	@scripts/test.sh

.PHONY: quick
quick: install ## unit tests and transcripts alone: seconds, no root
	@scripts/test.sh unit transcripts

.PHONY: sanitizers
sanitizers: ## the native code under the address, undefined-behaviour and thread sanitizers (minutes)
	native-addon/test.sh

.PHONY: fuzz
fuzz: install ## what reads bytes of others, native and not, with inputs that nobody wrote, for so long each: SECONDS= (60)
	native-addon/fuzz.sh $(or $(SECONDS),60)
	MDMESH_FUZZ_SECONDS=$(or $(SECONDS),60) $(NODE) --test --test-concurrency=2 --test-reporter=spec test/unit/*_fuzz.test.ts

.PHONY: audit-deps
audit-deps: ## what is known against the packages that the program is made of, by the registry's own list; says so when it cannot be had
	@scripts/audit_deps.sh

.PHONY: model
model: install ## the protocol's models, every scope, by spin (minutes); writes the tables of docs/model.md
	$(NODE) test/model/all.ts

.PHONY: bench
bench: build dist ## figures on real kernels (needs root): a table and out/bench.json; ONLY=leg,rest, LONG=1
	$(NODE) bench/main.ts

.PHONY: lab
lab: build ## every story on real kernels, also those that make test has no time for (needs root; most of an hour)
	$(NODE) scripts/lab.ts 2 test/lab/*.test.ts test/lab/*.long.ts

.PHONY: soak
soak: build ## seeded rounds of failures on real kernels (needs root); SEED=, ROUNDS= (42; hundreds take hours)
	$(NODE) test/lab/soak.ts

.PHONY: history
history: build ## random faults under readers and writers of the same blocks, judged for lost, stale, torn values (needs root); SEED=, ROUNDS= (20)
	$(NODE) test/lab/history.ts

.PHONY: sim
sim: install ## simulated clusters among faults: SEED= (7, 3,5 or 1-100), NODES=, HOURS= (0.05 each), FAULTS=, EVERY= (ms), FENCING=, QUORUM=disks, ACCESS=exclusive, LEVEL=, ARRAYS=2, COMINGS=1 (arrays come and go); replays exactly
	@SEED='$(SEED)' NODES='$(NODES)' HOURS='$(HOURS)' FAULTS='$(FAULTS)' EVERY='$(EVERY)' FENCING='$(FENCING)' QUORUM='$(QUORUM)' ACCESS='$(ACCESS)' LEVEL='$(LEVEL)' ARRAYS='$(ARRAYS)' COMINGS='$(COMINGS)' $(NODE) --no-warnings test/sim/run.ts

.PHONY: sim-night
sim-night: install ## ten thousand seeds of that on all cores (hours); SEED=1-500: others
	@SEED='$(or $(SEED),1-10000)' NODES='$(NODES)' HOURS='$(HOURS)' FAULTS='$(FAULTS)' EVERY='$(EVERY)' FENCING='$(FENCING)' QUORUM='$(QUORUM)' ACCESS='$(ACCESS)' LEVEL='$(LEVEL)' ARRAYS='$(ARRAYS)' COMINGS='$(COMINGS)' $(NODE) --no-warnings test/sim/run.ts

.PHONY: sim-mutations
sim-mutations: install ## switches each safety rule off and looks who notices: the table in docs/simulation.md; SEEDS= (12), ONLY=
	@SEEDS='$(SEEDS)' ONLY='$(ONLY)' $(NODE) --no-warnings test/sim/prove_mutations.ts

.PHONY: lint
lint: install ## types and style
	$(NODE) node_modules/typescript/bin/tsc -p .
	$(NODE) node_modules/typescript/bin/tsc -p src/page/browser
	$(NODE) node_modules/@biomejs/biome/bin/biome check .

# Root is what real kernels take: without it, or without what they need, the demo says so and runs on simulated ones, unbuilt.
.PHONY: demo
demo: packages install ## three kernels, a mirror, a disk that breaks, a master that dies; BIN=path: with that build
	@$(if $(BIN),,if [ "$$(id -u)" -eq 0 ]; then $(MAKE) build; fi)
	@$(if $(BIN),MDMESH_BIN='$(abspath $(BIN))') $(NODE) --no-warnings demo/main.ts

.PHONY: clean
clean: ## remove what was built; node_modules stays
	rm -rf out dist native-addon/build
