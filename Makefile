# Everything runs from .venv, which is made from the locked requirements. The path of the checkout may hold spaces.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
STAMP := .venv/.synced
# uv reads the machine's own certificates, as pip does.
export UV_SYSTEM_CERTS ?= 1
# Images of containers often set it; each of the suite's thousands of processes would compile us anew.
unexport PYTHONDONTWRITEBYTECODE

EVACUATION := $(BIN)/evacuation
PARALLEL := --tx '3*popen//python=tests/alone' --dist loadscope
option = $(if $(2),--$(1) "$(2)")

.DEFAULT_GOAL := help
.PHONY: help drill fleet-drill test test-all test-fast mutants simulate check fmt soak ceph bench-contain bench-idle bench-offload bench-reading bench-trigger bench-status bench-fleet reference lock pictures wheel clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 12

$(STAMP): requirements-dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(STAMP)

drill: $(STAMP)  ## evacuate a real sample workload to a real S3 server; KEEP=1 leaves server, UI and store up
	$(EVACUATION) drill $(if $(KEEP),--keep)

fleet-drill: $(STAMP)  ## evacuate a fleet of three hosts on PostgreSQL and Redis, of which two die, and an API process
	$(EVACUATION) drill --fleet

test: $(STAMP)  ## the short suite: ten minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: $(STAMP)  ## every test but the campaigns, after installing what they need (Debian, root): half an hour; what fails is tried again, alone
	.ci/install all
	rm -f build/tests.xml && code=0
	$(BIN)/python -m pytest -m "not soak" $(PARALLEL) --cache-clear --junitxml=build/tests.xml $(ARGS) || code=$$?
	$(BIN)/python -m tests.second_try "$$code"

test-fast: $(STAMP)  ## two cases of each quick unit test, drawn by SEED=1: under a minute
	CASES=$(or $(CASES),2) $(BIN)/python -m pytest tests/unit -m "unit and not soak and not slow" --tx '2*popen//python=tests/alone' --dist load --hypothesis-profile=fast $(ARGS)

simulate: $(STAMP)  ## whole evacuations on paper, with faults drawn by SEED=1 RUNS=100; SECONDS=3600 ends it, TELL=1 tells each, FAULT=name puts an old fault back first
	$(BIN)/python -m tests.simulation.simulate $(call option,seed,$(SEED)) $(call option,runs,$(RUNS)) \
		$(call option,seconds,$(SECONDS)) $(call option,fault,$(FAULT)) $(if $(TELL),--tell)

mutants: $(STAMP)  ## which changed lines the tests notice: SET=laws|acts SEED=1 NUMBER=60 RAN=coverage.json; writes build/mutants/
	$(BIN)/python -m tests.mutants $(or $(SET),laws) --seed $(or $(SEED),1) --number $(or $(NUMBER),60) $(if $(RAN),--ran "$(RAN)")

ceph: $(STAMP)  ## the store's contract and a whole incident on Ceph's gateway: two minutes
	.ci/install all
	tests/alone -m pytest tests/integration/ceph -m "" $(ARGS)

soak: $(STAMP)  ## the long campaigns, of which the test suite runs a sample
	tests/alone -m pytest -m soak $(ARGS)

bench-contain: $(STAMP)  ## the runbook's steps 0-3 as typed and the flow side by side, and trees of 10 to 2,000 processes; SMALL=1 shows that it runs; writes build/bench/contain.json
	$(BIN)/python -m benchmarks.contain $(if $(SMALL),--small)

bench-trigger: $(STAMP)  ## from an event to a contained workload on a busy machine, beside the default worker; SIDE=root|default or "no rights" measures that one, SMALL=1 shows that it runs; writes build/bench/trigger.json
	$(BIN)/python -m benchmarks.trigger $(if $(SMALL),--small) $(call option,side,$(SIDE))

bench-idle: $(STAMP)  ## what WORKERS=100 idle workers cost one server process, in cores, with DATABASE=postgresql+asyncpg://…; writes build/bench/idle.json
	$(BIN)/python -m benchmarks.idle $(call option,workers,$(WORKERS)) $(call option,database,$(DATABASE))

bench-offload: $(STAMP)  ## our offload beside the runbook's, s5cmd and rclone: SETS="S M L" ROUNDS=3, NET=1 over a shaped line (root), TURNS="typed ours" only these, KEEP=1 adds rounds to earlier ones; SETS=tiny ROUNDS=1 shows that it runs; writes build/bench/offload.json or offload-net.json
	$(BIN)/python -m benchmarks.offload $(SETS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(NET),--net) $(if $(KEEP),--keep) $(if $(TURNS),--only $(TURNS))

bench-reading: $(STAMP)  ## how often and how quickly 8 GB of models are read, beside cp and sha256sum (root); SMALL=1 shows that it runs; writes build/bench/reading.json
	$(BIN)/python -m benchmarks.reading $(if $(SMALL),--small)

bench-status: $(STAMP)  ## how long `evacuation status` takes, as a multiple of `python -c pass`; writes build/bench/status.json
	$(BIN)/python -m benchmarks.status

bench-fleet: $(STAMP)  ## a fleet on its plant: three real hosts, 20, 50, 100 simulated ones; STORE=build/bench/RUN/store/real1 only lists copies of that host's incident; SMALL=1 shows that it runs; writes build/bench/fleet.json
	$(BIN)/python -m $(if $(STORE),benchmarks.fleet_store $(STORE),benchmarks.fleet $(if $(SMALL),--small))

reference: $(STAMP)  ## docs/reference.md and the tables of docs/architecture.md, from the code
	$(BIN)/python -m docs.reference
	$(BIN)/python -m docs.packages

check: $(STAMP)  ## types, lint, rows of packages, the budget; LOWER=1 writes what has fallen into budget.toml first
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.budget $(if $(LOWER),lower)

fmt: $(STAMP)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)  ## compile the requirements again, with hashes
	compile() { "$(CURDIR)/$(BIN)/uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header "$$@"; }
	compile pyproject.toml -o requirements.txt
	compile --extra drill --extra fleet --group dev pyproject.toml -o requirements-dev.txt
	for name in models-old-soak models-soak stores-soak strangers strangers-soak; do
		compile tests/support/requirements/$$name.in -o tests/support/requirements/$$name.txt
	done
	for name in workload gunicorn; do
		(cd examples/$$name && compile requirements.in -o requirements.txt)
	done

pictures: $(STAMP)  ## the pictures of README and docs, taken of a real run in a browser
	mkdir -p build/pictures
	SCREENSHOTS=build/pictures tests/alone -m pytest tests/integration/browser/test_ui.py -m "" -k person
	cp build/pictures/form.png build/pictures/form-store.png build/pictures/form-workload.png build/pictures/artifact.png docs/
	cp build/pictures/two-runs.png docs/timeline.png

wheel: $(STAMP)  ## the wheel, in dist/: pipx install and uv tool install take it
	rm -rf build/lib build/bdist.* # setuptools would put modules of an earlier build into it
	$(BIN)/uv build --wheel

clean:  ## remove what the drills and tests left in build/
	rm -rf build dist
