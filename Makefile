# Every target is idempotent and needs no other step before it. Prerequisites: Python 3.11 or newer with venv, make, git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
SAM_VENV := .venv-sam
SAM := SAM_CLI_TELEMETRY=0 $(SAM_VENV)/bin/sam
REGION ?= eu-central-1
ARCHITECTURE ?= arm64
FUZZ_SECONDS ?= 60

.PHONY: help setup demo test accuracy lint format bench fuzz build lock docs clean
.DEFAULT_GOAL := help

help: ## say what the targets do
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | column -t -s '|'

setup: $(STAMP) ## .venv with the package and its tools

# One environment for the command line, the local cloud, tests and checks; every package by its hash. The lock is whole,
# so pip need not look for anything that is not in it (and older ones stumble over extras when they do).
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is older: name another one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q layers/package # a tenth of a second of every start, where Python may not write it down itself
	@touch $@

demo: setup ## the 2007 case on a local cloud: the real template deployed, capture and alert in, notice out
	$(BIN)/backscatter demo

test: setup ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup

accuracy: setup ## 40,000 random scenarios judged, on all processors: docs/accuracy.md
	$(BIN)/python scripts/accuracy.py

lint: setup ## static checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/cfn-lint --regions $(REGION) -- template.yaml

format: setup ## put the code in its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## packets per CPU second, beside the peers that are installed
	$(BIN)/python scripts/bench.py

# The tests do not need what is installed here.
$(VENV)/.fuzz: requirements/fuzz.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/fuzz.txt
	@touch $@

# All three run, whatever the ones before them found; what fails is kept in .fuzz/.
fuzz: setup $(VENV)/.fuzz ## mutated captures and alerts, FUZZ_SECONDS (60) each: at random, then guided by coverage
	@failed=0; \
	$(BIN)/python scripts/fuzz/mutate.py --seconds $(FUZZ_SECONDS) || failed=1; \
	for kind in captures alerts; do $(BIN)/python scripts/fuzz/guided.py $$kind --seconds $(FUZZ_SECONDS) || failed=1; done; \
	exit $$failed

docs: setup ## pages that are made from the code
	$(BIN)/python scripts/rules_page.py
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/cost.py

$(SAM_VENV)/.locked: requirements/sam.txt
	$(PYTHON) -m venv $(SAM_VENV)
	$(SAM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/sam.txt
	@touch $@

build: setup $(SAM_VENV)/.locked ## the deployable artefacts, for ARCHITECTURE (arm64 or x86_64)
	$(SAM) validate --lint --region $(REGION)
	ARCHITECTURE=$(ARCHITECTURE) PYTHON=$(abspath $(BIN)/python) $(SAM) build --parameter-overrides Architecture=$(ARCHITECTURE)

# Needs uv on the path (`pip install uv`); the lock files name no index.
UV := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'
lock: ## pin every dependency again, with hashes
	cd requirements && $(UV) dev.in --output-file dev.txt
	cd requirements && $(UV) runtime.in --constraint dev.txt --output-file runtime.txt
	cd requirements && $(UV) sam.in --output-file sam.txt
	cd requirements && $(UV) fuzz.in --output-file fuzz.txt

clean: ## remove what these targets made
	rm -rf $(VENV) $(SAM_VENV) .setup .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
